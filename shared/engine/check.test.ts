import { describe, expect, it } from 'vitest'
import type { CheckOutcome } from '#shared/jobs/define.ts'
import { generate } from '#shared/jobs/generate.ts'
import { moderate } from '#shared/jobs/moderate.ts'
import { query } from '#shared/jobs/query.ts'
import { summarize } from '#shared/jobs/summarize.ts'
import type { CallAnswer } from '#shared/providers/define.ts'
import { check } from './check.ts'

const answer = (text: string, finishReason: CallAnswer['finishReason'] = 'stop'): CallAnswer => ({
  parts: text === '' ? [] : [{ type: 'text', text }],
  finishReason,
  usage: null,
  limits: null,
  model: 'a-model',
})
const PLAIN = { prompt: 'a' }
const JSON_INPUT = { prompt: 'a', schema: { type: 'object' } }

const of = (input: unknown, filter = false) => ({ input, model: 'a-model', filter })

describe('check', () => {
  it('returns the result of the kind', async () => {
    expect(await check(generate, of(PLAIN), answer('Hello'))).toEqual({
      ok: true,
      result: { text: 'Hello' },
      filtered: null,
    })
  })

  it('awaits an asynchronous check of the kind', async () => {
    const later = (checked: CheckOutcome) => ({ ...generate, check: async () => checked })
    const result = { text: 'Her card is [card removed].' }
    const good = later({ ok: true, result: { text: 'Her card is 4111 1111 1111 1111.' } })
    expect(await check(good, of(PLAIN, true), answer('Hello'))).toEqual({ ok: true, result, filtered: { card: 1 } })
    const reason = 'it writes'
    const bad = later({ ok: false, reason })
    expect(await check(bad, of(PLAIN), answer('Hello'))).toEqual({ ok: false, reason, again: true })
  })

  it('replaces characters that Postgres cannot store before the kind sees them', async () => {
    expect(await check(generate, of(PLAIN), answer('a\0b\ud800'))).toEqual({
      ok: true,
      result: { text: 'a\uFFFDb\uFFFD' },
      filtered: null,
    })
  })

  it.each(['refusal', 'content_filter'] as const)(
    'takes a %s for the result of a text that the client asked for',
    async reason => {
      const words = 'I would rather not'
      expect(await check(generate, of(PLAIN), answer(words, reason))).toEqual({
        ok: true,
        result: { text: words },
        filtered: null,
      })
      expect(await check(generate, of(PLAIN), answer('', reason))).toMatchObject({ ok: true, result: { text: '' } })
    },
  )

  it.each(['refusal', 'content_filter'] as const)(
    'fails the task at a %s where a shape was asked for, even if it has that shape',
    async reason => {
      for (const [kind, input] of [
        [generate, JSON_INPUT],
        [summarize, { text: 'a' }],
        [moderate, { text: 'a' }],
      ] as const)
        expect(await check(kind, of(input), answer('{}', reason))).toEqual({
          ok: false,
          reason: 'The model refused to answer: {}',
          again: false,
          fatal: 'model_refused',
        })
    },
  )

  it('accepts a refusal as the result where the endpoint has a field for it', async () => {
    const context = { ...of(JSON_INPUT), keepsRefusals: true }
    expect(await check(generate, context, answer('No.', 'refusal'))).toMatchObject({
      ok: true,
      result: { text: 'No.' },
    })
  })

  it('filters a refusal too', async () => {
    const refused = answer('I store no 4111 1111 1111 1111.', 'refusal')
    expect(await check(generate, of(PLAIN, true), refused)).toMatchObject({
      result: { text: 'I store no [card removed].' },
    })
  })

  it('accepts truncated text, because the client set the limit', async () => {
    expect((await check(generate, of(PLAIN), answer('Once upon a', 'length'))).ok).toBe(true)
  })

  it('reports an unusable answer as truncated', async () => {
    expect(await check(generate, of(JSON_INPUT), answer('{"a":', 'length'))).toEqual({
      ok: false,
      reason: 'the answer is not JSON: it ends before its JSON is complete',
      again: false,
      cut: true,
    })
    expect(await check(generate, of(JSON_INPUT), answer('{"a":'))).toEqual({
      ok: false,
      reason: 'the answer is not JSON: it ends before its JSON is complete',
      again: true,
    })
  })

  it('reports an empty text as truncated when the model spent its tokens on reasoning', async () => {
    expect(await check(generate, of(PLAIN), answer(' ', 'length'))).toEqual({
      ok: false,
      reason: 'the model wrote no answer, only reasoning',
      again: false,
      cut: true,
    })
  })

  it('rejects a truncated verdict even if it parses', async () => {
    const guard = { ...of({ text: 'a' }), model: 'llama-guard3:8b' }
    expect(await check(moderate, guard, answer('safe', 'length'))).toMatchObject({ ok: false, cut: true })
    expect(await check(moderate, guard, answer('safe'))).toMatchObject({ ok: true, result: { decision: 'allow' } })
  })

  it('filters the output if requested', async () => {
    const leak = 'Her card is 4111 1111 1111 1111.'
    const result = { text: 'Her card is [card removed].' }
    expect(await check(generate, of(PLAIN, true), answer(leak))).toEqual({ ok: true, result, filtered: { card: 1 } })
    expect(await check(generate, of(PLAIN), answer(leak))).toEqual({ ok: true, result: { text: leak }, filtered: null })
    expect(await check(generate, of(PLAIN, true), answer('Nothing'))).toMatchObject({ filtered: null })
  })

  it('filters the rows of a query but not its SQL', async () => {
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
