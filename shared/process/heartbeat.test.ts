import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Db } from '#shared/db/pool.ts'
import type { WorkerState } from '#shared/db/workers.ts'
import { type HeldClaims, startHeartbeat } from './heartbeat.ts'
import { LIVENESS } from './liveness.ts'
import { createLogger } from './logger.ts'

const logger = createLogger({ level: 'silent', name: 'test' })
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)
beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** A Postgres whose answers to heartbeats the test sets. */
async function harness() {
  const beats: unknown[][] = []
  let answer: () => Promise<{ id: string; epoch: number }[]> = async () => []
  const db = {
    query: (_: unknown, values: unknown[]) => {
      beats.push(values)
      return answer()
    },
  } as unknown as Db
  const stopped: Record<string, string | undefined> = { a: undefined, b: undefined }
  const held: HeldClaims = {
    list: () => ['a', 'b'].map(id => ({ id, epoch: 1 })),
    stop: (reason, claim) => {
      for (const one of claim === undefined
        ? ['a', 'b']
        : [`${claim.id}${claim.epoch === 1 ? '' : ' of an earlier epoch'}`])
        stopped[one] ??= reason
    },
    size: 2,
  }
  const heartbeat = await startHeartbeat({
    db,
    held,
    liveness: LIVENESS,
    logger,
    describe: () => ({ id: 'worker' }) as WorkerState,
  })
  return {
    beats,
    heartbeat,
    stopped: () => [stopped.a, stopped.b],
    answers: (next: typeof answer) => {
      answer = next
    },
  }
}

describe('a heartbeat', () => {
  it('is sent at once and every two seconds, with the claims', async () => {
    const { beats, heartbeat } = await harness()
    const before = beats.length
    await pass(4000)
    expect(beats.length).toBeGreaterThanOrEqual(before + 2)
    expect(beats.at(-1)!.slice(-2)).toEqual([
      ['a', 'b'],
      [1, 1],
    ])
    await heartbeat.stop()
    expect(vi.getTimerCount()).toBe(0)
  })

  it('stops the calls whose claims are gone, and only those', async () => {
    const { answers, stopped, heartbeat } = await harness()
    answers(async () => [{ id: 'b', epoch: 1 }])
    await pass(2000)
    expect(stopped()).toEqual([undefined, 'lost'])
    await heartbeat.stop()
  })

  it('stops all calls after 8 seconds without a confirmation, whether Postgres refuses or hangs', async () => {
    for (const answer of [() => Promise.reject(new Error('away')), () => new Promise<never>(() => {})]) {
      const { answers, stopped } = await harness()
      await pass(2000)
      answers(answer)
      await pass(7500)
      expect(stopped()).toEqual([undefined, undefined])
      await pass(3000)
      expect(stopped()).toEqual(['no_beat', 'no_beat'])
    }
  })

  it('keeps the calls running through a shorter outage', async () => {
    const { answers, stopped, heartbeat } = await harness()
    answers(() => Promise.reject(new Error('away')))
    await pass(5000)
    answers(async () => [])
    await pass(20_000)
    expect(stopped()).toEqual([undefined, undefined])
    expect(heartbeat.lastBeatMs()).toBeLessThanOrEqual(2000)
    await heartbeat.stop()
  })

  it('is abandoned when it hangs, so that the next one can succeed', async () => {
    const { answers, stopped, heartbeat } = await harness()
    let hanging = 0
    answers(() => {
      hanging++
      return new Promise<never>(() => {})
    })
    await pass(3000)
    expect(hanging).toBe(1)
    answers(async () => [])
    await pass(4000)
    expect(heartbeat.lastBeatMs()).toBeLessThanOrEqual(2000)
    expect(stopped()).toEqual([undefined, undefined])
    await heartbeat.stop()
  })

  it('blocks new work after six seconds without a confirmation, until one succeeds', async () => {
    const { answers, heartbeat } = await harness()
    const begun: string[] = []
    answers(() => Promise.reject(new Error('away')))
    await pass(5000)
    await heartbeat.untilHealthy().then(() => begun.push('after 5 s'))
    await pass(2500)
    void heartbeat.untilHealthy().then(() => begun.push('after 7.5 s'))
    await pass(5000)
    expect(begun).toEqual(['after 5 s'])
    answers(async () => [])
    await pass(500)
    expect(begun).toEqual(['after 5 s', 'after 7.5 s'])
    await heartbeat.stop()
  })

  it('must succeed once before the worker starts', async () => {
    const db = { query: () => Promise.reject(new Error('away')) } as unknown as Db
    const starting = startHeartbeat({
      db,
      held: { list: () => [], stop: () => undefined, size: 0 },
      liveness: LIVENESS,
      logger,
      describe: () => ({}) as WorkerState,
    })
    await expect(starting).rejects.toThrow('away')
    expect(vi.getTimerCount()).toBe(0)
  })
})
