import { expect, it } from 'vitest'
import type { FinishedTask } from '#shared/db/tasks/row.ts'
import { NO_ANSWER } from '#shared/jobs/ask.ts'
import { jobs } from '#shared/jobs/index.ts'
import { createEndCounter } from './end-metrics.ts'
import { createMetrics } from './metrics.ts'

const said = { answer: 'Six.', answered: true, citations: [{ id: 'a', quote: 'six' }] }
const unsaid = { answer: NO_ANSWER, answered: false, citations: [] }
const ended = (more: Partial<FinishedTask>): FinishedTask => {
  return { id: 'task', kind: 'ask', status: 'succeeded', source: 'ai', seconds: 1, result: said, ...more }
}

it('the end of a task counts whether its kind found an answer, from a call, the cache or rules', async () => {
  const metrics = createMetrics('worker')
  const count = createEndCounter(metrics, jobs)
  count([ended({}), ended({ source: 'cache' }), ended({ source: 'rules', result: unsaid })])
  // Generate cannot report a missing answer; the other tasks have no result.
  count([
    ended({ kind: 'generate', result: { text: 'Hi' } }),
    ended({ status: 'failed', source: null, result: undefined }),
  ])
  count([ended({ status: 'expired', source: null, result: undefined })])
  const { values } = await metrics.answers.get()
  expect(values.map(({ labels, value }) => [labels.kind, labels.outcome, value])).toEqual([
    ['ask', 'answered', 2],
    ['ask', 'no_answer', 1],
  ])
  expect((await metrics.ended.get()).values.reduce((sum, one) => sum + one.value, 0)).toBe(6)
})

it('the end of a task records its duration, unless it was cancelled or is a batch line', async () => {
  const metrics = createMetrics('worker')
  createEndCounter(
    metrics,
    jobs,
  )([
    ended({ seconds: 2 }),
    ended({ status: 'cancelled', source: null, seconds: 100 }),
    ended({ status: 'failed', source: null, seconds: null }),
  ])
  const { values } = await metrics.taskSeconds.get()
  const counts = values.filter(value => value.metricName?.endsWith('_count'))
  expect(counts.map(value => [value.labels.status, value.value])).toEqual([['succeeded', 1]])
})
