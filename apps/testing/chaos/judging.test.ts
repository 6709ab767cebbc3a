import { describe, expect, test } from 'vitest'
import { type AttemptRow, inFlight, matchCalls, paidTwice } from './ledger.ts'
import { mostAtOnce, mostInAMinute } from './load.ts'
import { makePlan } from './plan.ts'
import type { LoggedCall } from './upstream.ts'

const call = (more: Partial<LoggedCall> = {}): LoggedCall => ({
  ...{
    provider: 'anthropic',
    marker: 'm1',
    caller: 'worker-1-1',
    at: 1000,
    endedAt: 1200,
    end: 'answered',
    status: 200,
  },
  ...{ usage: { inputTokens: 10, outputTokens: 5 }, tokens: 15 },
  ...more,
})

const attempt = (more: Partial<AttemptRow> = {}): AttemptRow => ({
  ...{ task_id: 't1', n: 1, worker_id: 'w1', provider: 'anthropic', outcome: 'succeeded' },
  ...{ started_ms: 990, finished_ms: 1210, cost_usd: '0.001', reserved_usd: '0.002', over_reserved: false },
  ...{ estimated: false, settlements: 1, input_tokens: 10, output_tokens: 5 },
  ...more,
})

const match = (calls: LoggedCall[], attempts: AttemptRow[], lateMs = 0) =>
  matchCalls(
    calls,
    attempts,
    id => id.replace('t', 'm'),
    () => 'w1',
    lateMs,
  )

describe('the ledger against the upstream', () => {
  test('calls of identical tasks at the same moment are matched by their tokens, in any order of ending', () => {
    const calls = [5, 9, 7].map(outputTokens => call({ usage: { inputTokens: 1, outputTokens } }))
    const rows = [7, 5, 9].map(output_tokens => attempt({ input_tokens: 1, output_tokens }))
    expect(match(calls, rows).miscounted).toEqual([])
    expect(match(calls, [...rows.slice(1), attempt({ input_tokens: 1, output_tokens: 8 })]).miscounted).toHaveLength(1)
  })

  test('a call that the upstream noticed late matches the row that was settled meanwhile, and no earlier row', () => {
    const given = attempt({ outcome: 'timeout', finished_ms: 700, started_ms: 600 })
    const dropped = call({ at: 1000, end: 'dropped' })
    expect(match([dropped], [given]).unwritten).toHaveLength(1)
    expect(match([dropped], [given], 250).unwritten).toEqual([])
  })

  test('a call matches its row', () => {
    const { pairs, ...wrong } = match([call()], [attempt()])
    expect(pairs).toHaveLength(1)
    expect(wrong).toEqual({ unwritten: [], uncalled: [], perhaps: [], miscounted: [] })
  })

  test.each([
    ['no row at all', []],
    ['a row of another task', [attempt({ task_id: 't2' })]],
    ['a row of another provider', [attempt({ provider: 'openai' })]],
    ['a row of another process', [attempt({ worker_id: 'w2' })]],
    ['a row that was written after the call', [attempt({ started_ms: 2000, finished_ms: 2100 })]],
    ['a row that was settled before the call', [attempt({ outcome: 'aborted', started_ms: 100, finished_ms: 200 })]],
    ['a row with a refusal of the provider', [attempt({ outcome: 'rate_limited' })]],
  ])('a call with %s counts as missing in the ledger', (_, rows) => {
    expect(match([call()], rows).unwritten).toHaveLength(1)
  })

  test('a row with an answer and without a call is reported', () => {
    expect(match([], [attempt()]).uncalled).toHaveLength(1)
  })

  test('a row without a call that may never have been sent is accepted', () => {
    expect(match([], [attempt({ outcome: 'unknown' })])).toMatchObject({ uncalled: [], perhaps: [{ n: 1 }] })
  })

  test('a row whose tokens differ from the reported usage is reported', () => {
    expect(match([call()], [attempt({ output_tokens: 6 })]).miscounted).toHaveLength(1)
    expect(match([call({ usage: null })], [attempt()]).miscounted).toHaveLength(1)
    expect(match([call({ usage: null })], [attempt({ estimated: true })]).miscounted).toHaveLength(0)
  })

  test('calls that may be billed beyond one per task count as paid twice', () => {
    const calls = [call({ end: 'dropped' }), call({ at: 3000 }), call({ at: 5000, end: 'refused', status: 429 })]
    const rows = [
      attempt({ outcome: 'unknown', finished_ms: 2000 }),
      attempt({ n: 2, started_ms: 2990, finished_ms: 3300 }),
      attempt({ n: 3, outcome: 'rate_limited', started_ms: 4990, finished_ms: 5300 }),
    ]
    expect(paidTwice(match(calls, rows).pairs)).toEqual({ calls: 1, answered: 0, byDesign: 0 })
    expect(inFlight(rows, 1500, 'w1')).toBe(1)
    expect(inFlight(rows, 1500, 'w2')).toBe(0)
    expect(inFlight(rows, 2500, null)).toBe(0)
  })
})

describe('the load on the upstream', () => {
  test('a minute begins at any call and ends after 60 s', () => {
    const calls = [0, 30_000, 59_999, 60_000, 89_999].map(at => call({ at }))
    expect(mostInAMinute(calls, () => 1)).toBe(4)
    expect(mostInAMinute(calls, one => one.tokens)).toBe(60)
  })

  test('a call is closed when another begins at its end, or shortly after its client disconnected', () => {
    expect(mostAtOnce([call({ at: 0, endedAt: 100 }), call({ at: 100, endedAt: 200 })])).toBe(1)
    expect(mostAtOnce([call({ at: 0, endedAt: 101 }), call({ at: 100, endedAt: 200 })])).toBe(2)
    expect(
      mostAtOnce([call({ at: 0, endedAt: 101, end: 'dropped' }), call({ at: 100, endedAt: null, end: null })]),
    ).toBe(1)
  })
})

test('the same seed makes the same plan, and another seed another plan', () => {
  const options = { seed: 3, faults: 20, tasks: 200, seconds: 60 }
  expect(makePlan(options)).toEqual(makePlan(options))
  expect(makePlan({ ...options, seed: 4 }).faults).not.toEqual(makePlan(options).faults)
  expect(new Set(makePlan({ ...options, faults: 11 }).faults.map(fault => fault.kind)).size).toBe(11)
})
