import OpenAI from 'openai'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { type Cluster, PATIENT, startCluster, within } from './cluster.ts'
import { ask, clientOf, endedTask } from './direct.ts'

vi.setConfig(PATIENT)

let cluster: Cluster
beforeAll(async () => {
  cluster = await startCluster()
})
afterAll(() => cluster?.close())

test('a retry at another API after kill -9 of the first gets the answer of a worker', async () => {
  const { api, upstream } = cluster
  const victim = await cluster.startApi()
  const [row] = await cluster.sql<{ id: string }>('SELECT id FROM workers WHERE pid = $1', [victim.pid])
  const held = upstream.hold()
  const lost = clientOf(victim).chat.completions.create(ask('killed'))
  await within('the call comes', held.waiting(1))
  victim.kill()
  await expect(lost).rejects.toBeInstanceOf(OpenAI.APIConnectionError)
  await cluster.presumeDead(row!)
  held.release()
  // As the SDK repeats it, behind a load balancer.
  const repeated = await clientOf(api).chat.completions.create(ask('killed'), {
    headers: { 'x-stainless-retry-count': '1' },
  })
  expect(repeated.choices[0]?.message.content).toBe('Hello from upstream.')
  const { id, status } = await endedTask(cluster, 'killed')
  expect(status).toBe('succeeded')
  expect((await cluster.attempts(id)).map(one => one.outcome)).toEqual(['unknown', 'succeeded'])
  expect(upstream.markers()).toEqual({ killed: 2 })
})
