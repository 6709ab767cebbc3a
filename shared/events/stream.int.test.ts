import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { newId } from '#shared/ids.ts'
import type { Redis } from '#shared/redis/connect.ts'
import { testPrefix } from '#shared/testing/database.ts'
import { testRedis, unreachableRedis } from '#shared/testing/redis.ts'
import { clean } from '#shared/text.ts'
import type { Notifications } from './notifications.ts'
import { openDeltaWriter, readStream, type StreamEntry } from './stream.ts'

const prefix = testPrefix()
const keyOf = (id: string) => `${prefix}:text:${id}`

/** Notifications that tell the test when an entry has been written. */
function countHints() {
  let count = 0
  let changed = () => {}
  const notifications = {
    more: () => {
      count++
      changed()
    },
  } as unknown as Notifications
  return {
    notifications,
    count: () => count,
    until: (n: number) =>
      new Promise<void>(resolve => {
        changed = () => count >= n && resolve()
        changed()
      }),
  }
}

async function open(redis: Redis, id: string = newId(), attempt = 1) {
  const { notifications, until, count } = countHints()
  const writer = openDeltaWriter({ redis, notifications, prefix, id, attempt, timeoutMs: 60_000, endWaitMs: 60_000 })
  return { id, writer, until, count, read: (after = { attempt: 0, n: 0 }) => readStream(redis, prefix, id, after) }
}
/** Writes and waits until it has arrived. */
async function say({ writer, until, count }: Awaited<ReturnType<typeof open>>, text: string) {
  const before = count()
  writer.write(text)
  await until(before + 1)
}

/** The text that a reader has after these entries; null: there is a gap in it. */
function compose(entries: StreamEntry[]): { text: string | null; ended: boolean } {
  let text: string | null = ''
  let n = 0
  for (const entry of entries) {
    if (entry.type === 'b' || entry.type === 'w') text = entry.text
    else if (entry.n !== n + 1) text = null
    else if (text !== null) text += entry.type === 'd' ? entry.text : ''
    n = entry.n
  }
  return { text, ended: entries.at(-1)?.type === 'e' }
}

describe('the text of a task', () => {
  it('is read as it was written, entry by entry, with an end mark', async () => {
    const stream = await open(await testRedis())
    await stream.until(1)
    await say(stream, 'one ')
    await say(stream, 'two')
    await stream.writer.end()
    expect(await stream.read()).toEqual([
      { attempt: 1, n: 0, type: 'b', text: '' },
      { attempt: 1, n: 1, type: 'd', text: 'one ' },
      { attempt: 1, n: 2, type: 'd', text: 'two' },
      { attempt: 1, n: 3, type: 'e', text: '' },
    ])
  })

  it('can be resumed from any entry', async () => {
    const stream = await open(await testRedis())
    await stream.until(1)
    await say(stream, 'one ')
    await say(stream, 'two')
    const rest = await stream.read({ attempt: 1, n: 1 })
    expect(rest.map(entry => entry.text)).toEqual(['two'])
  })

  it('is written in fewer entries when it arrives faster than Redis accepts it', async () => {
    const stream = await open(await testRedis())
    for (const letter of 'abcdefghijklmnopqrstuvwxyz') stream.writer.write(letter)
    await stream.writer.end()
    const entries = await stream.read()
    expect(compose(entries)).toEqual({ text: 'abcdefghijklmnopqrstuvwxyz', ended: true })
    expect(entries.length).toBeLessThan(10)
  })

  it('expires two minutes after the call timeout, also after a restart of the stream', async () => {
    const redis = await testRedis()
    const stream = await open(redis)
    await stream.until(1)
    await say(stream, 'one')
    expect(await redis.ttl(keyOf(stream.id))).toSatisfy(ttl => ttl > 170 && ttl <= 180)
    await redis.del(keyOf(stream.id))
    await say(stream, 'again')
    expect(await redis.ttl(keyOf(stream.id))).toSatisfy(ttl => ttl > 170 && ttl <= 180)
  })

  it('expires two minutes after its end', async () => {
    const redis = await testRedis()
    for (const flushed of [false, true]) {
      const stream = await open(redis)
      await say(stream, 'one')
      if (flushed) await redis.del(keyOf(stream.id))
      await stream.writer.end()
      expect(await redis.ttl(keyOf(stream.id))).toSatisfy(ttl => ttl > 110 && ttl <= 120)
    }
  })

  it('is kept while its attempt writes, whatever an earlier attempt does', async () => {
    const redis = await testRedis()
    const first = await open(redis)
    await first.until(1)
    const second = await open(redis, first.id, 2)
    await second.until(1)
    await first.writer.end()
    expect(await redis.ttl(keyOf(first.id))).toBeGreaterThan(170)
  })

  it('is written again completely after a flush of Redis', async () => {
    const redis = await testRedis()
    const stream = await open(redis)
    await stream.until(1)
    await say(stream, 'one ')
    await redis.del(keyOf(stream.id))
    await say(stream, 'two ')
    await say(stream, 'three')
    await stream.writer.end()
    expect(await stream.read()).toEqual([
      { attempt: 1, n: 2, type: 'w', text: 'one two ' },
      { attempt: 1, n: 3, type: 'd', text: 'three' },
      { attempt: 1, n: 4, type: 'e', text: '' },
    ])
  })

  it('is complete even if Redis is flushed after the last text', async () => {
    const redis = await testRedis()
    const stream = await open(redis)
    await stream.until(1)
    await say(stream, 'one')
    await redis.del(keyOf(stream.id))
    await stream.writer.end()
    expect(compose(await stream.read())).toEqual({ text: 'one', ended: true })
  })

  it('drops the text of earlier attempts when a new one begins', async () => {
    const redis = await testRedis()
    const first = await open(redis)
    await first.until(1)
    await say(first, 'old')
    const second = await open(redis, first.id, 2)
    await second.until(1)
    expect(await second.read()).toEqual([{ attempt: 2, n: 0, type: 'b', text: '' }])
  })

  it('rejects text of an attempt that has been replaced', async () => {
    const redis = await testRedis()
    const first = await open(redis)
    await first.until(1)
    await say(first, 'old')
    const second = await open(redis, first.id, 2)
    await second.until(1)
    first.writer.write(' and late')
    await first.writer.end()
    await say(second, 'new')
    await second.writer.end()
    first.writer.write(' and later')
    await first.writer.end()
    const entries = await second.read()
    expect(compose(entries)).toEqual({ text: 'new', ended: true })
    expect(new Set(entries.map(entry => entry.attempt))).toEqual(new Set([2]))
  })

  it('holds no half of a surrogate pair, however the model splits its text', async () => {
    const redis = await testRedis()
    const text = fc.array(fc.constantFrom('a', '😀', '\ud83d', '\ude00', '\0', 'é'), { maxLength: 12 })
    await fc.assert(
      fc.asyncProperty(
        text,
        fc.array(fc.nat({ max: 3 }), { minLength: 1 }),
        fc.boolean(),
        async (parts, cuts, slow) => {
          const whole = parts.join('')
          const stream = await open(redis)
          for (let at = 0, cut = 0; at < whole.length; cut++) {
            const length = cuts[cut % cuts.length]! + 1
            stream.writer.write(whole.slice(at, at + length))
            at += length
            // A round trip later the piece before has been flushed.
            if (slow) await redis.ping()
          }
          await stream.writer.end()
          const entries = await stream.read()
          expect(compose(entries)).toEqual({ text: clean(whole), ended: true })
          for (const entry of entries) expect(entry.text.isWellFormed()).toBe(true)
        },
      ),
      { numRuns: 60 },
    )
  })

  it('is complete or has no end mark, whenever Redis fails and returns, with or without its data', async () => {
    const redis = await testRedis()
    let away = false
    // The same connection, with an outage that the test commands: before the command, or after it was carried out.
    let late = false
    const fail = () => Promise.reject(new Error('redis is away'))
    const unreliable = new Proxy(redis, {
      get(target, name) {
        const value = Reflect.get(target, name) as unknown
        if (typeof value !== 'function') return value
        return (...args: unknown[]) => {
          if (name === 'multi') return away ? { xtrim: () => ({ expire: () => ({ exec: fail }) }) } : target.multi()
          if (!away) return value.apply(target, args) as unknown
          return late ? (value.apply(target, args) as Promise<unknown>).then(fail) : fail()
        }
      },
    })
    const step = fc.constantFrom('write', 'write', 'write', 'away', 'late', 'back', 'flush', 'pause')
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 16 }), fc.boolean(), async (steps, atFirst) => {
        away = atFirst
        late = false
        const stream = await open(unreliable)
        let whole = ''
        for (const step of steps) {
          if (step === 'write') {
            stream.writer.write(`${whole.length} `)
            whole += `${whole.length} `
          } else if (step === 'flush') await redis.del(keyOf(stream.id))
          else if (step === 'pause') await redis.ping()
          else {
            away = step !== 'back'
            late = step === 'late'
          }
        }
        away = false
        await stream.writer.end()
        expect(compose(await readStream(redis, prefix, stream.id, { attempt: 0, n: 0 }))).toEqual({
          text: whole,
          ended: true,
        })
      }),
      { numRuns: 100 },
    )
  })
})

describe('a writer without Redis', () => {
  it('accepts all text and ends without an error', async () => {
    const { writer, count } = await open(unreachableRedis())
    writer.write('nobody ')
    writer.write('listens')
    await writer.end()
    expect(count()).toBe(0)
  })

  it('leaves the error to the reader', async () => {
    await expect(readStream(unreachableRedis(), prefix, newId(), { attempt: 0, n: 0 })).rejects.toThrow()
  })
})
