import { expect, test } from 'vitest'
import { endIfStuck } from './liveness-probe.ts'
import type { Exit } from './process.ts'

/** Watches a process that answers probes in this way; it exits at the probe after the last. */
async function watch(statuses: (number | null)[]) {
  const { promise: exited, resolve: exit } = Promise.withResolvers<Exit>()
  const events: string[] = []
  const end = async (call: string) => void events.push(call)
  await endIfStuck(
    { pid: 1, exited, stop: () => end('stop'), kill: () => void end('kill') },
    {
      name: 'worker 1',
      log: line => events.push(line),
      wait: async () => {},
      probe: async () => {
        const status = statuses.shift()
        if (status === undefined) exit({ code: 0, signal: null })
        return status ?? null
      },
      onStuck: reason => events.push(reason),
    },
  )
  return events
}

test('a worker that gives three probes in a row no answer is killed as frozen', async () => {
  expect(await watch([null, null, 200, null, null, null])).toEqual([
    'worker 1 does not answer; killing it',
    'frozen',
    'kill',
  ])
})

test('a worker that answers 503 is stopped, because it takes no jobs', async () => {
  expect(await watch([200, 503])).toEqual([
    'worker 1 takes no jobs although there are some; restarting it',
    'not_consuming',
    'stop',
  ])
})

test('a worker that answers is left alone until it exits', async () => {
  expect(await watch([200, null, null, 200, 404, null])).toEqual([])
})
