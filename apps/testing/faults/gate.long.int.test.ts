import { expect, test, vi } from 'vitest'
import { countedOtherThan, markers, modelOf, PATIENT, startCluster, until, within } from './cluster.ts'

vi.setConfig(PATIENT)

// Slow, because these tests wait for a probe of an open breaker, and for a minute to pass.

const ANSWERED = { status: 'succeeded', source: 'ai' }
const claude = { model: modelOf('only'), provider: 'anthropic', fallback: 'none' }

async function start(onTestFinished: (close: () => Promise<void>) => void) {
  const cluster = await startCluster({ workers: 2, env: { WORKER_CONCURRENCY: '20', MAX_ATTEMPTS: '3' } })
  onTestFinished(cluster.close)
  const state = async () => (await cluster.api.call('GET', '/api/v1/providers/anthropic/health')).body.models[0]
  return { ...cluster, state }
}

test.concurrent('an open breaker lets one call at a time through, and closes after two successes', async ({
  onTestFinished,
}) => {
  const { api, upstream, state, ended } = await start(onTestFinished)
  upstream.default({ status: 500 })
  await ended([await api.submit('[[first]]', { options: claude })])
  await until('the breaker opens', async () => (await state())?.breaker === 'open')
  upstream.default(null)

  const held = upstream.hold()
  const names = markers('waits', 10)
  const ids = await api.submitAll(names, { options: claude })
  await within('one of them calls', held.waiting(1))
  expect(await state()).toMatchObject({ breaker: 'half_open' })
  const impatient = await api.submit('[[impatient]]', { options: { ...claude, deadline_seconds: 1 } })
  await ended([impatient])
  expect(await api.task(impatient)).toMatchObject({ result: null, attempts: [] })
  expect(upstream.count()).toBe(4)

  held.release()
  await ended(ids)
  for (const task of await api.tasks(ids)) expect(task).toMatchObject(ANSWERED)
  expect(countedOtherThan(upstream, names, 1)).toEqual({})
  await until('the breaker closes', async () => (await state()).breaker === 'closed')
})

test.concurrent('no minute has more calls than the limit, and the tasks beyond it run in the next minute', async ({
  onTestFinished,
}) => {
  const { api, upstream, state, ended } = await start(onTestFinished)
  // New limits reach a gate at once only if it was called before.
  await ended([await api.submit('[[first]]', { options: claude })])
  upstream.reset()
  const body = { model: claude.model, rpm: 6 }
  expect(await api.call('PUT', '/api/v1/providers/anthropic/limits', { body })).toMatchObject({ status: 200 })
  // The first task was called in this minute, too, before the upstream began to count.
  upstream.limit({ requestsPerMinute: 6 })
  const names = markers('rate', 11)
  const ids = await api.submitAll(names, { options: claude })
  await within('five are called', upstream.arrived(5))
  await until('the others have a slot', async () => (await state()).waiting.for_rate === 6)
  expect(upstream.count()).toBe(5)

  await ended(ids)
  for (const task of await api.tasks(ids)) expect(task).toMatchObject(ANSWERED)
  expect(countedOtherThan(upstream, names, 1)).toEqual({})
  const { requestsPerMinute, overruns } = upstream.traffic()
  expect(overruns).toBe(0)
  expect(requestsPerMinute).toBeLessThanOrEqual(6)
})
