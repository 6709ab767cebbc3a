import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { TaskState } from '#shared/db/views.ts'
import type { Hints } from './hints.ts'
import { createWatcher } from './watch.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

function harness(readStates: (ids: string[]) => Promise<TaskState[]> = async ids => ids.map(running)) {
  const queries: string[][] = []
  const errors: unknown[] = []
  let hint: (id: string) => void = () => {}
  const watcher = createWatcher({
    hints: {
      onEnded: listener => {
        hint = listener
        return () => {
          hint = () => {}
        }
      },
    } as Hints,
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
  it('asks once a second for all tasks that are waited for, each once', async () => {
    const { watcher, queries } = harness()
    const told: unknown[] = []
    watcher.watch('a', state => told.push(state))
    watcher.watch('a', state => told.push(state))
    watcher.watch('b', state => told.push(state))
    await second()
    expect(queries).toEqual([['a', 'b']])
    expect(told).toEqual([running('a'), running('a'), running('b')])
    await second()
    expect(queries).toHaveLength(2)
  })

  it('asks nothing while nobody waits', async () => {
    const { watcher, queries } = harness()
    watcher.watch('a', () => {})()
    await second()
    expect(queries).toEqual([])
    expect(watcher.size).toBe(0)
  })

  it('passes a hint on at once, to those who wait for that task', async () => {
    const { watcher, hint } = harness()
    const told: unknown[] = []
    watcher.watch('a', state => told.push(['a', state]))
    watcher.watch('b', state => told.push(['b', state]))
    hint('b')
    hint('nobody’s')
    expect(told).toEqual([['b', null]])
  })

  it('tells nothing to one who has stopped, even in the middle of a round', () => {
    const { watcher, hint } = harness()
    const told: string[] = []
    const stopFirst = watcher.watch('a', () => {
      told.push('first')
      stopFirst()
    })
    watcher.watch('a', () => told.push('second'))
    hint('a')
    hint('a')
    expect(told).toEqual(['first', 'second', 'second'])
  })

  it('does not let one who stops twice take the place of another away', () => {
    const { watcher, hint } = harness()
    const stop = watcher.watch('a', () => {})
    stop()
    const told: unknown[] = []
    watcher.watch('a', state => told.push(state))
    stop()
    hint('a')
    expect(told).toEqual([null])
  })

  it('goes on after a query that failed', async () => {
    let broken = true
    const { watcher, errors } = harness(async ids => {
      if (broken) throw new Error('away')
      return ids.map(running)
    })
    const told: unknown[] = []
    watcher.watch('a', state => told.push(state))
    await second()
    expect(errors).toEqual([new Error('away')])
    broken = false
    await second()
    expect(told).toEqual([running('a')])
  })

  it('does not ask again while a query is under way', async () => {
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

  it('neither asks nor listens once it has been stopped', async () => {
    const { watcher, queries, hint } = harness()
    const told: unknown[] = []
    watcher.watch('a', state => told.push(state))
    watcher.stop()
    hint('a')
    await second()
    expect([queries, told]).toEqual([[], []])
  })
})
