import { describe, expect, it } from 'vitest'
import { parsePrices } from './price-overrides.ts'

const one = (price: unknown, name = 'openai/x') => parsePrices(JSON.stringify({ [name]: price }))

describe('parsePrices', () => {
  it('keeps the decimals of numbers', () => {
    const [override] = parsePrices(
      '{"openai/x":{"input":0.1,"output":"0.30","cache_read":1e-6,"cache_write":3.125,"batch":0.5}}',
    )
    expect(override).toEqual({
      provider: 'openai',
      model: 'x',
      prices: [{ input: '0.1', output: '0.30', cache_read: '0.000001', cache_write: '3.125', batch: '0.5' }],
    })
  })

  it('accepts names with slashes and colons, and patterns', () => {
    for (const model of ['meta/llama', 'llama3.2:1b', '*', 'gpt-*'])
      expect(one({ input: 1, output: 1 }, `openai/${model}`)[0]!.model).toBe(model)
  })

  it('accepts several prices by date, in any order', () => {
    const [override] = one([
      { input: 2, output: 2, from: '2026-06-01' },
      { input: 3, output: 3, from: '2026-12-01' },
      { input: 1, output: 1 },
    ])
    expect(override!.prices.map(price => price.input)).toEqual(['1', '2', '3'])
  })

  it.each([
    ['[]', 'must be an object'],
    ['nonsense', 'is not JSON'],
    ['{"gpt-5": {"input": 1, "output": 1}}', '"gpt-5" is not "<provider>/<model>"'],
    ['{"openai/": {"input": 1, "output": 1}}', '"openai/" is not'],
    ['{"openai/a*b": {"input": 1, "output": 1}}', '"openai/a*b" is not'],
    ['{"azure/x": {"input": 1, "output": 1}}', '"azure/x": unknown provider (known: anthropic'],
    ['{"openai/x": []}', '"openai/x" has no price'],
    ['{"openai/x": 5}', '"openai/x" must be object'],
    ['{"openai/x": {"input": 1}}', '"openai/x" must have required properties output'],
    ['{"openai/x": {"input": -1, "output": 1}}', '"openai/x"/input must be dollars per million tokens'],
    ['{"openai/x": {"input": 1, "output": 0.0000001}}', '"openai/x"/output must be dollars per million tokens'],
    ['{"openai/x": {"input": 1e6, "output": 1}}', '"openai/x"/input must be dollars per million tokens'],
    ['{"openai/x": {"input": "1,5", "output": 1}}', '"openai/x"/input must be dollars per million tokens'],
    ['{"openai/x": {"input": null, "output": 1}}', '"openai/x"/input must be dollars per million tokens'],
    ['{"openai/x": {"input": 1, "output": 1, "batch": 2}}', '"openai/x"/batch must be the share'],
    ['{"openai/x": {"input": 1, "output": 1, "from": "2026-02-30"}}', '"openai/x"/from must be a date'],
    ['{"openai/x": {"input": 1, "output": 1, "from": "soon"}}', '"openai/x"/from must be a date'],
    ['{"openai/x": [{"input": 1, "output": 1}, {"input": 2, "output": 1}]}', 'two prices from the same date'],
    ['{"openai/x": {"input": 1, "output": 1, "cached": 1}}', '"openai/x"/cached is no part of a price'],
    ['{"openai/x": {"input": 1, "output": 1, "bands": [{"above": 0, "input": 1, "output": 1}]}}', 'a whole number'],
    [
      '{"openai/x": {"input": 1, "output": 1, "bands": [{"above": 9, "input": 1, "output": 1}, {"above": 9, "input": 1, "output": 1}]}}',
      '"openai/x"/bands must ascend',
    ],
  ])('refuses %s', (json, message) => expect(() => parsePrices(json)).toThrow(message))
})
