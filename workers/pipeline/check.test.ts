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

describe('check', () => {
  it('lets the kind make the result', () => {
    expect(check(generate, PLAIN, answer('Hello'))).toEqual({ ok: true, result: { text: 'Hello' } })
  })

  it('replaces what Postgres cannot store before the kind sees it', () => {
    expect(check(generate, PLAIN, answer('a\0b\ud800'))).toEqual({ ok: true, result: { text: 'a\uFFFDb\uFFFD' } })
  })

  it('takes a refusal for no answer, whatever it says', () => {
    expect(check(generate, PLAIN, answer('I would rather not', 'refusal')).ok).toBe(false)
  })

  it('takes text that was cut off for an answer, since its limit was the client’s wish', () => {
    expect(check(generate, PLAIN, answer('Once upon a', 'max_tokens')).ok).toBe(true)
  })

  it('says so when an answer is of no use because it was cut off', () => {
    expect(check(generate, JSON_INPUT, answer('{"a":', 'max_tokens'))).toEqual({
      ok: false,
      reason: 'the answer is not JSON (it was cut off at max_tokens)',
    })
    expect(check(generate, JSON_INPUT, answer('{"a":'))).toEqual({ ok: false, reason: 'the answer is not JSON' })
  })
})
