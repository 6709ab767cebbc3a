import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { testPrefix } from '#shared/testing/database.ts'
import { connectPatiently, unreachableRedis } from '#shared/testing/redis.ts'
import { closeRedis, type Redis } from './connect.ts'
import { createKeyLimiter } from './key-limiter.ts'

const MINUTE = 60_000
const prefix = testPrefix()
let redises: Redis[]

beforeAll(async () => {
  redises = [1, 2].map(() => connectPatiently(inject('redisUrl')))
  await Promise.all(redises.map(redis => new Promise(resolve => redis.once('ready', resolve))))
})
afterAll(() => redises.forEach(closeRedis))

/** Milliseconds on Redis's clock. */
async function redisTime(): Promise<number> {
  const [seconds, micros] = (await redises[0]!.time()) as [number | string, number | string]
  return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000)
}

describe('the limit of a key', () => {
  it('holds for the whole fleet', async () => {
    const processes = redises.map(redis => createKeyLimiter({ redis, prefix }))
    const limit = 100
    const before = await redisTime()
    let admitted = 0
    for (let wave = 0; wave < 5; wave++) {
      const takes = await Promise.all(processes.flatMap(take => Array.from({ length: 40 }, () => take('fleet', limit))))
      admitted += takes.filter(take => take.ok).length
    }
    // If a minute begins in between, the requests that left the window are admitted again.
    const slidOut = Math.floor((limit * ((await redisTime()) - before)) / MINUTE)
    expect(admitted).toBeGreaterThanOrEqual(limit)
    expect(admitted).toBeLessThanOrEqual(limit + slidOut)
  })

  it('counts each key separately', async () => {
    const take = createKeyLimiter({ redis: redises[0]!, prefix })
    expect((await Promise.all([take('a', 1), take('b', 1)])).map(one => one.ok)).toEqual([true, true])
  })

  it.each([
    { this: 10, last: 0 },
    { this: 0, last: 60 },
    { this: 3, last: 1000 },
  ])(
    'says when it will admit the next request, after $last requests in the last minute and $this in this',
    async used => {
      const take = createKeyLimiter({ redis: redises[0]!, prefix })
      const limit = 10
      // What the formula asks for, by trying every millisecond.
      const expected = (at: number) => {
        for (let ms = 0; ; ms++) {
          const [passed, over] = [(at % MINUTE) + ms, (at % MINUTE) + ms >= MINUTE]
          const [now, before] = over ? [0, used.this] : [used.this, used.last]
          if ((limit - now) * MINUTE - before * (MINUTE - (passed % MINUTE)) >= MINUTE) return ms
        }
      }
      for (;;) {
        const before = await redisTime()
        await redises[0]!.hset(`${prefix}:rpm:wait`, { minute: Math.floor(before / MINUTE), ...used })
        const taken = await take('wait', limit)
        const after = await redisTime()
        // A minute that began in between says nothing; the next one is long.
        if (Math.floor(before / MINUTE) !== Math.floor(after / MINUTE)) continue
        if (taken.ok) {
          // So late in the minute that enough of the last one had slid out.
          expect(expected(after)).toBe(0)
        } else {
          expect(taken.ms).toBeLessThanOrEqual(expected(before))
          expect(taken.ms).toBeGreaterThanOrEqual(expected(after))
        }
        return
      }
    },
  )

  it('expires in Redis when the key is not used', async () => {
    await createKeyLimiter({ redis: redises[0]!, prefix })('expiry', 5)
    expect(await redises[0]!.pttl(`${prefix}:rpm:expiry`)).toBeGreaterThan(0)
  })

  it('is enforced per process while Redis is unavailable', async () => {
    const takes = [1, 2].map(() => createKeyLimiter({ redis: unreachableRedis(), prefix, now: () => 1000 * MINUTE }))
    const answers = await Promise.all(takes.flatMap(take => Array.from({ length: 9 }, () => take('away', 4))))
    expect(answers.filter(answer => answer.ok)).toHaveLength(8)
  })
})
