import { expect, it } from 'vitest'
import { createPrices } from '#shared/models/prices.ts'
import { textOfParts } from '#shared/requests/answer.ts'
import { DEMO_PRICE, demo } from './demo.ts'

const ask = (content: string, onText?: (text: string) => void) =>
  demo.call(
    { model: 'echo', messages: [{ role: 'user', content }], maxTokens: 10 },
    {
      signal: new AbortController().signal,
      timeoutMs: 1000,
      ...(onText && { onEvent: event => event.type === 'text' && onText(event.delta) }),
    },
  )

it('echoes the prompt without cost, labelled as a demo', async () => {
  const answer = await ask('Three titles')
  expect(answer).toMatchObject({ model: 'demo/echo', usage: { inputTokens: 0, outputTokens: 0 } })
  expect(textOfParts(answer.parts)).toMatch(
    /^\[demo\] No provider is configured, so no model has read this prompt\. It was: Three titles$/,
  )
  expect(createPrices([DEMO_PRICE]).costOf('demo', 'echo', answer.usage!)).toBe('0.000000000000')
})

it('streams the same text', async () => {
  const pieces: string[] = []
  const text = textOfParts((await ask('two  words\n', piece => void pieces.push(piece))).parts)
  expect(pieces.length).toBeGreaterThan(3)
  expect(pieces.join('')).toBe(text)
})

it('states the length of a prompt that it shortens, and splits no character', async () => {
  const text = textOfParts((await ask(`${'x'.repeat(499)}😀${'y'.repeat(1000)}`)).parts)
  expect(text).toContain('has 1501 characters and begins: xxx')
  expect(text.length).toBeLessThan(700)
  expect(text.isWellFormed()).toBe(true)
})
