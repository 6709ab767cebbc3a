import { describe, expect, it } from 'vitest'
import { assertNotTruncated, assertWindowNotFilled } from './input-truncation.ts'

const used = (inputTokens: number) => ({ inputTokens, outputTokens: 1, cacheReadTokens: 0, cacheWriteTokens: 0 })
const LONG = { messages: [{ role: 'user' as const, content: 'seven words that make a long prompt. '.repeat(1000) }] }
const SHORT = { messages: [{ role: 'user' as const, content: 'seven words that make a short prompt' }] }

describe('a prompt to an OpenAI-compatible server', () => {
  it.each([
    ['fewer than it has words', 2048],
    ['half a window', 1024],
  ])('was cut if the server read %s', (_, tokens) =>
    expect(() => assertNotTruncated(LONG, used(tokens))).toThrowError(
      expect.objectContaining({ kind: 'context_exceeded', scope: 'provider', usage: used(tokens) }),
    ),
  )

  it.each([
    ['as many as it has', 8000],
    ['too few to be credible, from servers that do not count', 20],
    ['none', 0],
  ])('counts as read if the server reports %s', (_, tokens) => assertNotTruncated(LONG, used(tokens)))

  it('counts as read without usage, or if it fits every window', () => {
    assertNotTruncated(LONG, null)
    assertNotTruncated(SHORT, used(1))
  })
})

describe('a prompt to Ollama', () => {
  it.each([
    ['fewer than it has words', 20],
    ['the whole window that was requested', 16_000],
    ['a window of the server’s own', 8192],
    ['nothing', 0],
  ])('may have been cut if the server reports %s', (_, tokens) =>
    expect(() => assertWindowNotFilled(LONG, used(tokens), 16_000)).toThrow(/longer prompt|did not report/),
  )

  it('counts as read otherwise', () => {
    assertWindowNotFilled(LONG, used(8000), 16_000)
    assertWindowNotFilled(SHORT, used(1), 4096)
    assertWindowNotFilled(SHORT, null, 4096)
  })
})
