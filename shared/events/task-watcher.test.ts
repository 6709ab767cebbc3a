import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { TaskState } from '#shared/db/tasks/read.ts'
import type { Notifications } from './notifications.ts'
import { createTaskWatcher } from './task-watcher.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

function harness(readStates: (ids: string[]) => Promise<TaskState[]> = async ids => ids.map(running)) {
  const queries: string[][] = []
  const errors: unknown[] = []
  let hint: (id: string) => void = () => {}
  const watcher = createTaskWatcher({
    notifications: {
      onEnded: listener => {
        hint = listener
        return () => {
          hint = () => {}
        }
      },
    } as Notifications,
    readStates: ids => {
      queries.push(ids)
      return readStates(ids)
    },
    onError: error => errors.push(error),
  })
  return { watcher, queries, errors, hint: (id: string) => hint(id) }
}
const running = (id: string): TaskState => ({ id, status: 'running', attempts: 1 })
const second = () => vi.advanceTimersByTimeAsync(1000)

describe('a watcher', () => {
  it('reads all watched tasks once a second in one query', async () => {
    const { watcher, queries } = harness()
    const received: unknown[] = []
    watcher.watch('a', state => received.push(state))
    watcher.watch('a', state => received.push(state))
    watcher.watch('b', state => received.push(state))
    await second()
    expect(queries).toEqual([['a', 'b']])
    expect(received).toEqual([running('a'), running('a'), running('b')])
    await second()
    expect(queries).toHaveLength(2)
  })

  it('reads nothing without listeners', async () => {
    const { watcher, queries } = harness()
    watcher.watch('a', () => {})()
    await second()
    expect(queries).toEqual([])
    expect(watcher.size).toBe(0)
  })

  it('passes a notification at once to the listeners of that task', async () => {
    const { watcher, hint } = harness()
    const received: unknown[] = []
    watcher.watch('a', state => received.push(['a', state]))
    watcher.watch('b', state => received.push(['b', state]))
    hint('b')
    hint('nobody’s')
    expect(received).toEqual([['b', null]])
  })

  it('does not call a listener that has stopped, even in the middle of a round', () => {
    const { watcher, hint } = harness()
    const received: string[] = []
    const stopFirst = watcher.watch('a', () => {
      received.push('first')
      stopFirst()
    })
    watcher.watch('a', () => received.push('second'))
    hint('a')
    hint('a')
    expect(received).toEqual(['first', 'second', 'second'])
  })

  it('does not remove another listener when one stops twice', () => {
    const { watcher, hint } = harness()
    const stop = watcher.watch('a', () => {})
    stop()
    const received: unknown[] = []
    watcher.watch('a', state => received.push(state))
    stop()
    hint('a')
    expect(received).toEqual([null])
  })

  it('continues after a failed query', async () => {
    let broken = true
    const { watcher, errors } = harness(async ids => {
      if (broken) throw new Error('away')
      return ids.map(running)
    })
    const received: unknown[] = []
    watcher.watch('a', state => received.push(state))
    await second()
    expect(errors).toEqual([new Error('away')])
    broken = false
    await second()
    expect(received).toEqual([running('a')])
  })

  it('does not read again while a query is in flight', async () => {
    let answer = (_: TaskState[]) => {}
    const { watcher, queries } = harness(
      () =>
        new Promise(resolve => {
          answer = resolve
        }),
    )
    watcher.watch('a', () => {})
    await second()
    await second()
    expect(queries).toHaveLength(1)
    answer([])
    await second()
    expect(queries).toHaveLength(2)
  })

  it('neither reads nor listens after it has been stopped', async () => {
    const { watcher, queries, hint } = harness()
    const received: unknown[] = []
    watcher.watch('a', state => received.push(state))
    watcher.stop()
    hint('a')
    await second()
    expect([queries, received]).toEqual([[], []])
  })
})
