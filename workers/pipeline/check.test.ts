import { describe, expect, it } from 'vitest'
import { generate } from '#shared/jobs/generate.ts'
import type { CallAnswer } from '#workers/providers/define.ts'
import { check } from './check.ts'

const answer = (text: string, stop: CallAnswer['stop'] = 'end'): CallAnswer => ({
  text,
  stop,
  usage: null,
  limits: null,
  model: 'a-model',
})
const PLAIN = { prompt: 'a' }
const JSON_INPUT = { prompt: 'a', schema: { type: 'object' } }

const of = (input: unknown, filter = false) => ({ input, model: 'a-model', filter })

describe('check', () => {
  it('lets the kind make the result', () => {
    expect(check(generate, of(PLAIN), answer('Hello'))).toEqual({
      ok: true,
      result: { text: 'Hello' },
      filtered: null,
    })
  })

  it('replaces what Postgres cannot store before the kind sees it', () => {
    expect(check(generate, of(PLAIN), answer('a\0b\ud800'))).toEqual({
      ok: true,
      result: { text: 'a\uFFFDb\uFFFD' },
      filtered: null,
    })
  })

  it('takes a refusal for no answer, whatever it says', () => {
    const refused = check(generate, of(PLAIN), answer('I would rather not', 'refusal'))
    expect(refused).toEqual({ ok: false, reason: 'the model refused', again: false })
  })

  it('takes text that was cut off for an answer, since its limit was the client’s wish', () => {
    expect(check(generate, of(PLAIN), answer('Once upon a', 'max_tokens')).ok).toBe(true)
  })

  it('says so when an answer is of no use because it was cut off', () => {
    expect(check(generate, of(JSON_INPUT), answer('{"a":', 'max_tokens'))).toEqual({
      ok: false,
      reason: 'the answer is not JSON (it was cut off at max_tokens)',
      again: false,
    })
    expect(check(generate, of(JSON_INPUT), answer('{"a":'))).toEqual({
      ok: false,
      reason: 'the answer is not JSON',
      again: true,
    })
  })

  it('takes out what must not get out, where that is asked for', () => {
    const leak = 'Her card is 4111 1111 1111 1111.'
    const result = { text: 'Her card is [card removed].' }
    expect(check(generate, of(PLAIN, true), answer(leak))).toEqual({ ok: true, result, filtered: { card: 1 } })
    expect(check(generate, of(PLAIN), answer(leak))).toEqual({ ok: true, result: { text: leak }, filtered: null })
    expect(check(generate, of(PLAIN, true), answer('Nothing'))).toMatchObject({ filtered: null })
  })
})
