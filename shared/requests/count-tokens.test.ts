import { expect, it } from 'vitest'
import { countTokens } from './count-tokens.ts'
import type { ChatRequest } from './request.ts'

const ask = (content: string, more: Partial<ChatRequest> = {}): ChatRequest => ({
  messages: [{ role: 'user', content }],
  ...more,
})

it('counts words of English as about one token each', () => {
  expect(countTokens(ask('The quick brown fox jumps over the lazy dog.'))).toBe(14)
})

it('counts instructions, tools, calls and their results', () => {
  const plain = countTokens(ask('Weather?'))
  const tools = [{ name: 'get_weather', parameters: { type: 'object', properties: { city: { type: 'string' } } } }]
  expect(countTokens(ask('Weather?', { system: 'Be brief', tools }))).toBeGreaterThan(plain + 15)
  const call = { type: 'tool_call' as const, id: 'a', name: 'get_weather', arguments: '{"city":"Oslo"}' }
  const result = { type: 'tool_result' as const, id: 'a', content: 'It rains' }
  const messages: ChatRequest['messages'] = [
    { role: 'user', content: 'Weather?' },
    { role: 'assistant', content: [call] },
    { role: 'user', content: [result] },
  ]
  expect(countTokens({ messages })).toBeGreaterThan(plain + 10)
})

it('counts text that looks like a control token', () => {
  expect(countTokens(ask('<|endoftext|>'))).toBeGreaterThan(4)
})

it('extrapolates a long text', () => {
  const once = countTokens(ask('word '.repeat(20_000)))
  expect(countTokens(ask('word '.repeat(200_000))) / once).toBeCloseTo(10, 0)
})
