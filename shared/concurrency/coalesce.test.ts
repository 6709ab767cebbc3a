import fc from 'fast-check'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { type CoalesceOptions, coalesce } from './coalesce.ts'

/** A server whose round trips end when the test says so. */
function server<I, O>(answer: (items: I[]) => O[], options: Partial<CoalesceOptions<I, O>> = {}) {
  const batches: I[][] = []
  const open: (() => void)[] = []
  let most = 0
  const ask = coalesce<I, O>({
    max: 1000,
    splitOnError: () => true,
    ...options,
    flush: async items => {
      batches.push(items)
      await new Promise<void>(resolve => {
        open.push(resolve)
        most = Math.max(most, open.length)
      })
      return answer(items)
    },
  })
  return {
    ask,
    batches,
    /** The maximum number of concurrent round trips. */
    most: () => most,
    inFlight: () => open.length,
    /** Ends one round trip, the oldest unless another is picked. */
    end: (index = 0) => open.splice(index % Math.max(1, open.length), 1)[0]?.(),
  }
}
/** Lets everything that is ready happen. */
const settle = () => new Promise<void>(resolve => setImmediate(() => setImmediate(resolve)))
const double = (items: number[]) => items.map(item => item * 2)

describe('coalesce', () => {
  it('flushes at once when no flush is running', async () => {
    const { ask, batches, end } = server(double)
    const answer = ask(1)
    await settle()
    expect(batches).toEqual([[1]])
    end()
    expect(await answer).toBe(2)
  })

  it('sends the items of one turn of the event loop in one round trip, in order', async () => {
    const { ask, batches, end } = server(double)
    const answers = Promise.all([ask(3), ask(1), ask(2)])
    await settle()
    expect(batches).toEqual([[3, 1, 2]])
    end()
    expect(await answers).toEqual([6, 2, 4])
  })

  it('queues items during a round trip, and sends them when it ends', async () => {
    const { ask, batches, end, inFlight } = server(double)
    const answers = [ask(1)]
    await settle()
    for (const item of [2, 3]) {
      answers.push(ask(item))
      await settle()
    }
    expect(inFlight()).toBe(1)
    end()
    await settle()
    expect(batches).toEqual([[1], [2, 3]])
    end()
    expect(await Promise.all(answers)).toEqual([2, 4, 6])
  })

  it('continues after a round trip that failed', async () => {
    let broken = true
    const { ask, end } = server<number, number>(
      items => {
        if (broken) throw new Error('away')
        return double(items)
      },
      { splitOnError: () => false },
    )
    const [first, second] = [ask(1), ask(2)].map(answer => answer.catch((error: Error) => error.message))
    await settle()
    end()
    expect([await first, await second]).toEqual(['away', 'away'])
    broken = false
    const third = ask(3)
    await settle()
    end()
    expect(await third).toBe(6)
  })

  it('does not split a batch that failed because the server is unavailable', async () => {
    const { ask, batches, end } = server<number, number>(
      () => {
        throw new Error('away')
      },
      { splitOnError: () => false },
    )
    const answers = Promise.allSettled(Array.from({ length: 50 }, (_, item) => ask(item)))
    await settle()
    end()
    expect((await answers).every(one => one.status === 'rejected')).toBe(true)
    expect(batches).toHaveLength(1)
  })

  it('fails queued items together with the batch that met an outage', async () => {
    const { ask, batches, end } = server<number, number>(
      () => {
        throw new Error('away')
      },
      { max: 1, splitOnError: () => false },
    )
    const answers = Promise.allSettled([ask(1), ask(2), ask(3)])
    await settle()
    end()
    expect((await answers).map(one => one.status)).toEqual(['rejected', 'rejected', 'rejected'])
    expect(batches).toEqual([[1]])
  })

  it('rejects items while the queue is full, and accepts them again afterwards', async () => {
    const { ask, end } = server<number, number>(double, {
      max: 1,
      weigh: item => item,
      full: { weight: 10, error: () => new Error('full') },
    })
    const first = ask(100)
    await settle()
    const waiting = [ask(9), ask(9)]
    await expect(ask(1)).rejects.toThrow('full')
    end()
    expect(await first).toBe(200)
    await settle()
    const last = ask(1)
    for (let n = 0; n < 3; n++) {
      end()
      await settle()
    }
    expect(await Promise.all([...waiting, last])).toEqual([18, 18, 2])
  })

  it('sends idle items with the next urgent item, or after the linger time', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    onTestFinished(() => void vi.useRealTimers())
    const { ask, batches, end } = server<number, number>(double, {
      idle: { lingerMs: 20, is: item => item < 0 },
    })
    const along = [ask(-1), ask(-2)]
    await settle()
    expect(batches).toEqual([])
    const waited = ask(5)
    await settle()
    expect(batches).toEqual([[-1, -2, 5]])
    const alone = ask(-3)
    end()
    expect(await Promise.all([...along, waited])).toEqual([-2, -4, 10])
    await settle()
    expect(batches).toHaveLength(1)
    await vi.advanceTimersByTimeAsync(20)
    expect(batches).toHaveLength(2)
    end()
    expect(await alone).toBe(-6)
  })

  it('fails only the faulty item, with its own error, in a logarithmic number of round trips', async () => {
    let trips = 0
    const ask = coalesce<number, number>({
      max: 1000,
      splitOnError: () => true,
      flush: async items => {
        trips++
        if (items.includes(137)) throw new Error(`137 among ${items.length}`)
        return double(items)
      },
    })
    const answers = await Promise.allSettled(Array.from({ length: 512 }, (_, item) => ask(item)))
    expect(answers.flatMap((one, item) => (one.status === 'rejected' ? [[item, String(one.reason)]] : []))).toEqual([
      [137, 'Error: 137 among 1'],
    ])
    expect(answers.flatMap((one, item) => (one.status === 'fulfilled' ? one.value - item * 2 : 0))).toEqual(
      Array(512).fill(0),
    )
    expect(trips).toBeLessThanOrEqual(1 + 2 * 9)
  })

  it('sends an item that is too heavy alone', async () => {
    const { ask, batches, end } = server<number, number>(double, { maxWeight: 10, weigh: item => item })
    const answers = Promise.all([ask(4), ask(50), ask(4), ask(4)])
    await settle()
    for (let trip = 0; trip < 3; trip++) {
      end()
      await settle()
    }
    expect(await answers).toEqual([8, 100, 8, 8])
    expect(batches).toEqual([[4], [50], [4, 4]])
  })

  it('settles every item once with its own result, in order and within the bounds, for any schedule', async () => {
    const item = fc.record({ weight: fc.nat({ max: 12 }), poison: fc.boolean() })
    const step = fc.oneof(
      fc.record({ do: fc.constant('ask' as const), items: fc.array(item, { minLength: 1, maxLength: 8 }) }),
      fc.record({ do: fc.constant('end' as const), index: fc.nat({ max: 3 }) }),
      fc.record({ do: fc.constant('wait' as const) }),
    )
    const bounds = fc.record({
      max: fc.integer({ min: 1, max: 6 }),
      maxWeight: fc.integer({ min: 1, max: 20 }),
      concurrency: fc.integer({ min: 1, max: 3 }),
    })
    await fc.assert(
      fc.asyncProperty(bounds, fc.array(step, { maxLength: 25 }), async (bounds, steps) => {
        type Item = { id: number; weight: number; poison: boolean }
        const { ask, batches, end, inFlight, most } = server<Item, string>(
          items => {
            if (items.some(one => one.poison)) throw new Error(items.map(one => one.id).join())
            return items.map(one => `answer ${one.id}`)
          },
          { ...bounds, weigh: one => one.weight },
        )
        const asked: Item[] = []
        const outcomes: string[][] = []
        for (const step of steps) {
          if (step.do === 'end') end(step.index)
          else if (step.do === 'wait') await settle()
          else {
            for (const one of step.items) {
              const item = { ...one, id: asked.push({ ...one, id: asked.length }) - 1 }
              const outcome: string[] = []
              outcomes.push(outcome)
              ask(item).then(
                value => outcome.push(value),
                (error: Error) => outcome.push(`failed ${error.message}`),
              )
            }
          }
        }
        await settle()
        while (inFlight() > 0) {
          end()
          await settle()
        }

        expect(outcomes).toEqual(asked.map(({ id, poison }) => [poison ? `failed ${id}` : `answer ${id}`]))
        expect(most()).toBeLessThanOrEqual(bounds.concurrency)
        for (const batch of batches) {
          expect(batch.length).toBeLessThanOrEqual(bounds.max)
          if (batch.length > 1)
            expect(batch.reduce((sum, one) => sum + one.weight, 0)).toBeLessThanOrEqual(bounds.maxWeight)
          expect(batch.map(one => one.id)).toEqual(batch.map((_, index) => batch[0]!.id + index))
        }
        // First come, first sent: an item is seen for the first time only when all before it have been.
        const seen = new Set<number>()
        for (const { id } of batches.flat()) {
          if (!seen.has(id)) expect(id).toBe(seen.size)
          seen.add(id)
        }
      }),
      { numRuns: 300 },
    )
  })
})
