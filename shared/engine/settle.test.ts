import { describe, expect, it } from 'vitest'
import { createMetrics } from '#shared/metrics/metrics.ts'
import { createSettle, type EndedAttempt } from './settle.ts'

const settle = createSettle({
  db: null as never,
  workerId: 'worker',
  end: async () => ({ ended: true }),
  producer: { dispatch: async () => undefined },
  prices: { costOf: () => '0.002' },
  modelLabel: (_, model) => model,
  metrics: createMetrics('worker'),
})
const costOf = (end: Partial<EndedAttempt>) =>
  settle.priceAttempt({
    n: 1,
    reservation: { provider: 'openai', model: 'm', kind: 'generate', usd: '0.01' } as never,
    at: new Date(),
    outcome: 'server_error',
    usage: null,
    billed: true,
    ...end,
  }).costUsd
const usage = { inputTokens: 9, outputTokens: 2, cacheReadTokens: 0, cacheWriteTokens: 0 }

describe('the cost of an attempt', () => {
  it('is the price of the reported usage, whatever the outcome', () => {
    for (const outcome of ['succeeded', 'aborted', 'overloaded']) expect(costOf({ outcome, usage })).toBe('0.002')
  })

  it.each(['rate_limited', 'overloaded', 'server_error', 'auth', 'invalid_request'])(
    'is nothing if the provider refused it: %s',
    outcome => expect(costOf({ outcome })).toBe('0'),
  )

  it.each(['rate_limited', 'overloaded', 'server_error', 'aborted', 'timeout', 'connection'])(
    'is not known if the answer had begun: %s',
    outcome => expect(costOf({ outcome, begun: true })).toBeNull(),
  )

  it('is zero if the call was not sent, and unknown if it was', () => {
    expect(costOf({ outcome: 'connection', billed: false })).toBe('0')
    expect(costOf({ outcome: 'connection' })).toBeNull()
  })
})
