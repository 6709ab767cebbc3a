import { expect, test, vi } from 'vitest'
import { countedOtherThan, markers, PATIENT, ROOT, until, within } from '#apps/testing/faults/cluster.ts'
import { growAndShrink, startFleet } from '#apps/testing/faults/local-fleet.ts'
import { signalIfAlive } from './process.ts'

vi.setConfig(PATIENT)

test.concurrent('a burst of tasks grows the fleet, which shrinks again, and no task is lost', async ({
  onTestFinished,
}) => {
  const env = {
    WORKERS_MIN: '1',
    WORKERS_MAX: '3',
    WORKER_CONCURRENCY: '10',
    WORKER_CONCURRENCY_MAX: '10',
    SCALE_TARGET_SECONDS: '5',
  }
  const fleet = await startFleet({ env, onTestFinished })
  // One process makes ten calls a second at most.
  fleet.upstream.default({ text: 'done', delayMs: 1000 })
  await growAndShrink(fleet, 300)
})

test.concurrent('a frozen worker is killed and started again, and another worker makes its calls', async ({
  onTestFinished,
}) => {
  const fleet = await startFleet({ env: { WORKERS_MIN: '2' }, onTestFinished })
  const { api, upstream, workers, started, ended, lines, replaced } = fleet
  const held = upstream.hold()
  const names = markers('frozen', 20)
  const ids = await api.submitAll(names)
  await within('all are in flight', held.waiting(20))
  const [frozen, other] = [started[0]!, started[1]!]
  signalIfAlive(frozen.pid, 'SIGSTOP')
  await frozen.exited
  expect(lines).toContainEqual(expect.stringMatching(/^worker [12] does not answer; killing it$/))
  held.release()
  await ended(ids)
  for (const task of await api.tasks(ids)) expect(task).toMatchObject({ status: 'succeeded', source: 'ai' })
  const pids = await until('there are two again', async () => {
    const seen = (await workers()).map(one => one.pid)
    return seen.length === 2 && !seen.includes(frozen.pid) && seen
  })
  expect(pids).toContain(other.pid)
  expect(replaced).toEqual(['frozen'])
})

test.concurrent('a worker that takes no jobs is started again, and the jobs are done', async ({ onTestFinished }) => {
  const starving = ['--import', `${ROOT}/apps/testing/setup/starving.ts`]
  const env = { WORKERS_MAX: '1', CALL_TIMEOUT_SECONDS: '5' }
  const fleet = await startFleet({ env, argsOf: n => (n === 0 ? starving : []), onTestFinished })
  const { api, upstream, workers, started, ended, lines, replaced } = fleet
  const names = markers('starved', 20)
  const ids = await api.submitAll(names)
  await ended(ids)
  for (const task of await api.tasks(ids)) expect(task).toMatchObject({ status: 'succeeded', attempts: [{}] })
  expect(countedOtherThan(upstream, names, 1)).toEqual({})
  await started[0]!.exited
  await until('only its successor is there', async () => {
    const seen = await workers()
    return seen.length === 1 && seen[0]!.pid === started[1]!.pid
  })
  expect(lines).toContain('worker takes no jobs although there are some; restarting it')
  expect(replaced).toEqual(['not_consuming'])
})
