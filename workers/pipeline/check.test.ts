import { describe, expect, it } from 'vitest'
import type { Checked } from '#shared/jobs/define.ts'
import { generate } from '#shared/jobs/generate.ts'
import { query } from '#shared/jobs/query.ts'
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
  it('lets the kind make the result', async () => {
    expect(await check(generate, of(PLAIN), answer('Hello'))).toEqual({
      ok: true,
      result: { text: 'Hello' },
      filtered: null,
    })
  })

  it('waits for a kind that makes its result later', async () => {
    const later = (checked: Checked) => ({ ...generate, check: async () => checked })
    const result = { text: 'Her card is [card removed].' }
    const good = later({ ok: true, result: { text: 'Her card is 4111 1111 1111 1111.' } })
    expect(await check(good, of(PLAIN, true), answer('Hello'))).toEqual({ ok: true, result, filtered: { card: 1 } })
    const reason = 'it writes'
    const bad = later({ ok: false, reason })
    expect(await check(bad, of(PLAIN), answer('Hello'))).toEqual({ ok: false, reason, again: true })
  })

  it('replaces what Postgres cannot store before the kind sees it', async () => {
    expect(await check(generate, of(PLAIN), answer('a\0b\ud800'))).toEqual({
      ok: true,
      result: { text: 'a\uFFFDb\uFFFD' },
      filtered: null,
    })
  })

  it('takes a refusal for no answer, whatever it says', async () => {
    const refused = await check(generate, of(PLAIN), answer('I would rather not', 'refusal'))
    expect(refused).toEqual({ ok: false, reason: 'the model refused', again: false })
  })

  it('takes text that was cut off for an answer, since its limit was the client’s wish', async () => {
    expect((await check(generate, of(PLAIN), answer('Once upon a', 'max_tokens'))).ok).toBe(true)
  })

  it('says so when an answer is of no use because it was cut off', async () => {
    expect(await check(generate, of(JSON_INPUT), answer('{"a":', 'max_tokens'))).toEqual({
      ok: false,
      reason: 'the answer is not JSON (it was cut off at max_tokens)',
      again: false,
    })
    expect(await check(generate, of(JSON_INPUT), answer('{"a":'))).toEqual({
      ok: false,
      reason: 'the answer is not JSON',
      again: true,
    })
  })

  it('takes out what must not get out, where that is asked for', async () => {
    const leak = 'Her card is 4111 1111 1111 1111.'
    const result = { text: 'Her card is [card removed].' }
    expect(await check(generate, of(PLAIN, true), answer(leak))).toEqual({ ok: true, result, filtered: { card: 1 } })
    expect(await check(generate, of(PLAIN), answer(leak))).toEqual({ ok: true, result: { text: leak }, filtered: null })
    expect(await check(generate, of(PLAIN, true), answer('Nothing'))).toMatchObject({ filtered: null })
  })

  it('takes it out of the rows that a query found, and leaves the query as it was run', async () => {
    const sql = "SELECT name, note, ssn, n FROM cards WHERE note <> '4111 1111 1111 1111' LIMIT 100"
    const explanation = 'All but 4111 1111 1111 1111.'
    const columns = ['name', 'note', 'ssn', 'n'].map(name => ({ name, type: 'text' }))
    const rows = [
      ['Ann', 'paid with 4111 1111 1111 1111', '219099999', 219099999],
      ['Bo', null, null, 1],
    ]
    const found = { kind: 'rows' as const, columns, rows, truncated: false }
    const input = { question: 'Who?', schema: { tables: [{ name: 'cards', columns }] }, execute: true }
    const checked = (filter: boolean) =>
      check(
        query,
        { ...of(input, filter), tools: { runQuery: async () => found } },
        answer(JSON.stringify({ sql, explanation })),
      )
    expect(await checked(true)).toEqual({
      ok: true,
      result: {
        sql,
        tables: ['cards'],
        explanation: 'All but [card removed].',
        columns,
        rows: [
          ['Ann', 'paid with [card removed]', '[ssn removed]', 219099999],
          ['Bo', null, null, 1],
        ],
        truncated: false,
      },
      filtered: { card: 2, ssn: 1 },
    })
    expect(await checked(false)).toMatchObject({ result: { sql, explanation, rows }, filtered: null })
  })
})
