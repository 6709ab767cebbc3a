import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createLifecycle, type ProcessFace, repeatEvery, runUntilSignal, withDeadline } from './lifecycle.ts'
import { createLogger } from './logger.ts'

const logger = createLogger({ level: 'silent', name: 'test' })
const never = () => new Promise<never>(() => {})
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

describe('a lifecycle', () => {
  it('releases resources last in, first out, one at a time', async () => {
    const lifecycle = createLifecycle(logger)
    const log: string[] = []
    for (const name of ['postgres', 'redis', 'http']) {
      lifecycle.defer(name, async () => {
        log.push(`${name} begins`)
        await Promise.resolve()
        log.push(`${name} ends`)
      })
    }
    await lifecycle.stop()
    expect(log).toEqual(['http', 'redis', 'postgres'].flatMap(name => [`${name} begins`, `${name} ends`]))
  })

  it('continues when a release throws or rejects', async () => {
    const lifecycle = createLifecycle(logger)
    const log: string[] = []
    lifecycle.defer('last', () => log.push('last'))
    lifecycle.defer('throws', () => {
      throw new Error('no')
    })
    lifecycle.defer('rejects', () => Promise.reject(new Error('no')))
    await lifecycle.stop()
    expect(log).toEqual(['last'])
  })

  it('abandons a release at its deadline and continues', async () => {
    const lifecycle = createLifecycle(logger)
    const log: string[] = []
    lifecycle.defer('last', () => log.push('last'))
    lifecycle.defer('hangs', never, 700)
    const stopped = lifecycle.stop()
    await pass(699)
    expect(log).toEqual([])
    await pass(1)
    await stopped
    expect(log).toEqual(['last'])
  })

  it('stops once when stop is called several times', async () => {
    const lifecycle = createLifecycle(logger)
    const release = vi.fn()
    lifecycle.defer('one', release)
    expect(lifecycle.stopping).toBe(false)
    await Promise.all([lifecycle.stop(), lifecycle.stop()])
    await lifecycle.stop()
    expect(lifecycle.stopping).toBe(true)
    expect(release).toHaveBeenCalledTimes(1)
  })

  it('also releases resources that are deferred while it stops', async () => {
    const lifecycle = createLifecycle(logger)
    const log: string[] = []
    lifecycle.defer('first', () => {
      lifecycle.defer('late', () => log.push('late'))
    })
    await lifecycle.stop()
    expect(log).toEqual(['late'])
  })
})

describe('withDeadline', () => {
  it('returns a result that arrives in time, and leaves no timer', async () => {
    expect(await withDeadline(Promise.resolve(1), 1000)).toBe(1)
    await expect(withDeadline(Promise.reject(new Error('own')), 1000)).rejects.toThrow('own')
    expect(vi.getTimerCount()).toBe(0)
  })

  it('rejects when the deadline passes', async () => {
    const outcome = expect(withDeadline(never(), 1000)).rejects.toThrow('not done after 1000 ms')
    await pass(1000)
    await outcome
  })
})

describe('repeatEvery', () => {
  it('runs at once and then at intervals, also after a failure', async () => {
    const errors: unknown[] = []
    const work = vi.fn<() => Promise<unknown>>().mockRejectedValueOnce(new Error('first')).mockResolvedValue(false)
    const stop = repeatEvery(1000, work, error => errors.push(error))
    await pass(0)
    expect([work.mock.calls.length, errors.length]).toEqual([1, 1])
    await pass(999)
    expect(work).toHaveBeenCalledTimes(1)
    await pass(1)
    expect(work).toHaveBeenCalledTimes(2)
    await stop()
    await pass(5000)
    expect(work).toHaveBeenCalledTimes(2)
  })

  it('runs again at once while work returns true', async () => {
    const work = vi
      .fn<() => Promise<unknown>>()
      .mockResolvedValueOnce(true)
      .mockResolvedValueOnce(true)
      .mockResolvedValue(0)
    const stop = repeatEvery(1000, work, () => {})
    await pass(10)
    expect(work).toHaveBeenCalledTimes(3)
    await stop()
  })

  it('stops after the current run, and never runs twice at a time', async () => {
    const round = Promise.withResolvers<void>()
    const work = vi.fn(() => round.promise)
    const stop = repeatEvery(1000, work, () => {})
    await pass(5000)
    expect(work).toHaveBeenCalledTimes(1)
    let stopped = false
    const stopping = stop().then(() => {
      stopped = true
    })
    await pass(5000)
    expect(stopped).toBe(false)
    round.resolve()
    await stopping
    expect(vi.getTimerCount()).toBe(0)
  })
})

describe('runUntilSignal', () => {
  /** A process whose signals the test sends. */
  function harness(deadlineMs = 1000) {
    const listeners = new Map<string, (argument?: unknown) => void>()
    const exits: unknown[] = []
    const face = {
      on: (event: string, listener: () => void) => listeners.set(event, listener),
      exit: (code: number) => exits.push(code),
    } as unknown as ProcessFace
    const lifecycle = createLifecycle(logger)
    runUntilSignal(face, lifecycle, logger, deadlineMs)
    return { lifecycle, exits, send: (event: string, argument?: unknown) => listeners.get(event)!(argument) }
  }

  it.each(['SIGTERM', 'SIGINT', 'disconnect'])('releases everything on %s, then exits with 0', async signal => {
    const { lifecycle, exits, send } = harness()
    const work = Promise.withResolvers<void>()
    lifecycle.defer('work', () => work.promise)
    send(signal)
    await pass(0)
    expect([lifecycle.stopping, exits]).toEqual([true, []])
    work.resolve()
    await pass(0)
    expect(exits).toEqual([0])
  })

  it('exits with 1 when the release misses the deadline', async () => {
    const { lifecycle, exits, send } = harness(1000)
    lifecycle.defer('hangs', never, 60_000)
    send('SIGTERM')
    await pass(999)
    expect(exits).toEqual([])
    await pass(1)
    expect(exits).toEqual([1])
  })

  it.each(['SIGINT', 'SIGTERM'] as const)('exits at once on a SIGINT after a %s', async first => {
    const { lifecycle, exits, send } = harness()
    lifecycle.defer('hangs', never)
    send(first)
    await pass(0)
    send('SIGINT')
    expect(exits).toEqual([1])
  })

  it('finishes its work when SIGTERM is repeated', async () => {
    const { lifecycle, exits, send } = harness()
    const work = Promise.withResolvers<void>()
    lifecycle.defer('work', () => work.promise)
    for (let n = 0; n < 20; n++) send('SIGTERM')
    await pass(0)
    expect(exits).toEqual([])
    work.resolve()
    await pass(0)
    expect(exits).toEqual([0])
  })

  it('does not count the death of its parent as a second signal', async () => {
    const { lifecycle, exits, send } = harness()
    const work = Promise.withResolvers<void>()
    lifecycle.defer('work', () => work.promise)
    send('SIGTERM')
    send('disconnect')
    expect(exits).toEqual([])
    work.resolve()
    await pass(0)
    expect(exits).toEqual([0])
  })

  it('exits on an uncaught exception', () => {
    const { exits, send } = harness()
    send('uncaughtException', new Error('a bug'))
    expect(exits).toEqual([1])
  })
})
