import { randomBytes, randomUUID } from 'node:crypto'
import { connect, createServer, type Socket } from 'node:net'
import fc from 'fast-check'
import { afterEach, describe, expect, inject, it, onTestFinished, vi } from 'vitest'
import { createLogger, type Logger } from '#shared/process/logger.ts'
import { testPrefix } from '#shared/testing/database.ts'
import { keysLike, testRedis, unreachableRedis } from '#shared/testing/redis.ts'
import { type CachedAnswer, createCache, type LookUp, MAX_ENTRY_BYTES } from './cache.ts'

const logger = createLogger({ level: 'silent', name: 'test' })
const LIFE = { ttlSeconds: 60, staleSeconds: 60 }
const STALE = { ttlSeconds: 0, staleSeconds: 60 }
const LEADS = { ttlMs: 60_000 }
const AFRESH = { ...LEADS, refresh: true }
/** No test is about how soon Redis answers but the one in which it does not. */
const PATIENT_MS = 60_000
const key = () => randomBytes(32)
const answer = (text = 'Hi'): CachedAnswer => ({ result: { text }, provider: 'anthropic', model: 'claude' })

const open = (url = inject('cacheRedisUrl')) => testRedis('fast', url)
/** A process's cache. Those with the same prefix are one. */
const cache = async (more: Partial<Parameters<typeof createCache>[0]> = {}) =>
  createCache({ redis: await open(), prefix: testPrefix(), logger, timeoutMs: PATIENT_MS, ...more })

/** How many round trips `work` takes. */
async function roundTrips(work: (cache: Awaited<ReturnType<typeof createCache>>) => Promise<unknown>) {
  const redis = await open()
  const own = createCache({ redis, prefix: testPrefix(), logger, timeoutMs: PATIENT_MS })
  await own.lookUp(key(), randomUUID(), LEADS)
  await own.get(key())
  const sent = vi.spyOn(redis, 'sendCommand')
  await work(own)
  return sent.mock.calls.length
}

afterEach(() => vi.useRealTimers())

describe('an entry', () => {
  it('is fresh, then stale, then gone', async () => {
    const own = await cache()
    const k = key()
    expect(await own.get(k)).toBeNull()
    expect(await own.put(k, answer(), LIFE)).toBe(true)
    expect(await own.get(k)).toEqual({
      kind: 'fresh',
      entry: { ...answer(), storedAt: expect.any(Number), freshUntil: expect.any(Number) },
    })
    const { entry } = (await own.get(k))!
    expect(entry.freshUntil - entry.storedAt).toBe(60_000)
    await own.put(k, answer('again'), STALE)
    expect(await own.get(k)).toMatchObject({ kind: 'stale', entry: answer('again') })
    await own.put(k, answer(), { ttlSeconds: 0.05, staleSeconds: 0.05 })
    await expect.poll(() => own.get(k)).toBeNull()
  })

  it('ages by Redis’s clock, not by the clock of a process', async () => {
    const own = await cache()
    const [a, b] = [key(), key()]
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_600_000 })
    await own.put(a, answer(), LIFE)
    vi.setSystemTime(Date.now() - 7_200_000)
    await own.put(b, answer(), STALE)
    expect([await own.get(a), await own.get(b)].map(one => one?.kind)).toEqual(['fresh', 'stale'])
  })

  it('returns any result unchanged', async () => {
    const own = await cache()
    await fc.assert(
      fc.asyncProperty(fc.jsonValue(), fc.string({ unit: 'binary' }), async (value, model) => {
        const k = key()
        const stored = JSON.parse(JSON.stringify({ result: value, provider: 'p', model })) as CachedAnswer
        await own.put(k, stored, LIFE)
        expect((await own.get(k))?.entry).toMatchObject(stored)
      }),
      { numRuns: 50 },
    )
  })

  it('is not stored for an answer that is too large', async () => {
    const own = await cache()
    const k = key()
    expect(await own.put(k, answer('x'.repeat(MAX_ENTRY_BYTES)), LIFE)).toBe(false)
    expect(await own.put(k, answer('x'.repeat(MAX_ENTRY_BYTES - 100)), LIFE)).toBe(true)
  })

  it('is not stored with a lifetime of zero', async () => {
    expect(await (await cache()).put(key(), answer(), { ttlSeconds: 0, staleSeconds: 0 })).toBe(false)
  })

  it('that another program wrote is ignored', async () => {
    const redis = await open()
    const prefix = testPrefix()
    const own = createCache({ redis, prefix, logger, timeoutMs: PATIENT_MS })
    for (const text of ['', 'x', '1:99999999999999:{', '{}']) {
      const k = key()
      await redis.set(`{${prefix}:cache}:${k.toString('hex')}`, text)
      expect(await own.get(k)).toBeNull()
      expect(await own.lookUp(k, 'a', LEADS)).toEqual({ kind: 'lead' })
    }
  })
})

describe('a round trip', () => {
  it('serves all concurrent callers', async () => {
    const k = key()
    expect(await roundTrips(own => Promise.all(Array.from({ length: 50 }, (_, i) => own.get(i % 2 ? k : key()))))).toBe(
      1,
    )
    expect(
      await roundTrips(own => Promise.all(Array.from({ length: 50 }, () => own.lookUp(key(), randomUUID(), LEADS)))),
    ).toBe(1)
  })

  it('gives each caller its own answer', async () => {
    const own = await cache()
    const stored = Array.from({ length: 250 }, (_, i) => ({ k: key(), text: String(i) }))
    await Promise.all(stored.map(({ k, text }) => own.put(k, answer(text), LIFE)))
    const [found, looked] = await Promise.all([
      Promise.all(stored.flatMap(({ k }) => [own.get(k), own.get(key())])),
      Promise.all(stored.flatMap(({ k }) => [own.lookUp(k, 'a', LEADS), own.lookUp(key(), 'a', LEADS)])),
    ])
    expect(found.map(one => one?.entry.result ?? null)).toEqual(stored.flatMap(({ text }) => [{ text }, null]))
    expect(looked.map(one => (one.kind === 'hit' ? one.entry.result : one.kind))).toEqual(
      stored.flatMap(({ text }) => [{ text }, 'lead']),
    )
  })
})

describe('a bounded cache', () => {
  it('evicts the oldest entries, and counts an entry that is stored again once', async () => {
    const prefix = testPrefix()
    const redis = await open()
    const own = createCache({ redis, prefix, logger, maxBytes: 20_000, timeoutMs: PATIENT_MS })
    const keys = Array.from({ length: 100 }, key)
    for (const k of keys) {
      await own.put(k, answer('x'.repeat(500)), LIFE)
      await own.put(k, answer('x'.repeat(1000)), LIFE)
    }
    const kept = (await Promise.all(keys.map(k => own.get(k)))).map(one => one !== null)
    // Each counts as its text of about 1,075 bytes and 400 more.
    expect(kept.lastIndexOf(false)).toBe(kept.indexOf(true) - 1)
    expect(kept.filter(Boolean)).toHaveLength(13)
    const left = await keysLike(redis, `{${prefix}:cache}:*`)
    expect(left).toHaveLength(13 + 2)
    expect(await redis.hlen(`{${prefix}:cache}:sizes`)).toBe(13 + 1)
    for (const name of left) expect(await redis.pttl(name)).toBeGreaterThan(0)
  })
})

describe('identical tasks', () => {
  it('have one leader across processes, which gets no hit and leads again', async () => {
    const prefix = testPrefix()
    const fleet = await Promise.all([1, 2, 3].map(() => cache({ prefix })))
    const k = key()
    const tasks = Array.from({ length: 50 }, () => randomUUID())
    const ask = () => Promise.all(tasks.map((id, i) => fleet[i % 3]!.lookUp(k, id, LEADS)))
    const first = await ask()
    const leader = tasks[first.findIndex(one => one.kind === 'lead')]
    const expected = tasks.map(
      (id): LookUp => (id === leader ? { kind: 'lead' } : { kind: 'follow', leaderId: leader! }),
    )
    expect(first).toEqual(expected)
    expect(await ask()).toEqual(expected)
  })

  it('get the answer once it is stored, unless they refresh', async () => {
    const own = await cache()
    const k = key()
    await own.lookUp(k, 'a', LEADS)
    await own.put(k, answer(), LIFE)
    expect(await own.lookUp(k, 'b', LEADS)).toMatchObject({ kind: 'hit', entry: answer() })
    expect(await own.lookUp(k, 'b', AFRESH)).toEqual({ kind: 'follow', leaderId: 'a' })
    await own.releaseLead(k, 'a')
    expect(await own.lookUp(k, 'b', AFRESH)).toEqual({ kind: 'lead' })
    expect(await own.lookUp(k, 'c', AFRESH)).toEqual({ kind: 'follow', leaderId: 'b' })
  })

  it('do not get a stale answer', async () => {
    const own = await cache()
    const k = key()
    await own.put(k, answer(), STALE)
    expect(await own.lookUp(k, 'a', LEADS)).toEqual({ kind: 'lead' })
  })

  it('are released by their leader only', async () => {
    const own = await cache()
    const k = key()
    await own.lookUp(k, 'a', AFRESH)
    await own.releaseLead(k, 'b')
    expect(await own.lookUp(k, 'b', AFRESH)).toEqual({ kind: 'follow', leaderId: 'a' })
    await own.releaseLead(k, 'a')
    expect(await own.lookUp(k, 'b', AFRESH)).toEqual({ kind: 'lead' })
  })

  it('replace a leader that has ended, once', async () => {
    const own = await cache()
    const k = key()
    await own.lookUp(k, 'gone', AFRESH)
    const answers = await Promise.all(['a', 'b', 'c'].map(id => own.lookUp(k, id, { ...LEADS, replaceLeader: 'gone' })))
    expect(answers).toEqual([{ kind: 'lead' }, ...['b', 'c'].map(() => ({ kind: 'follow', leaderId: 'a' }))])
  })

  it('get a new leader when the leader’s time is over', async () => {
    const own = await cache()
    const k = key()
    await own.lookUp(k, 'a', { ttlMs: 40.5 })
    await expect.poll(() => own.lookUp(k, 'b', AFRESH)).toEqual({ kind: 'lead' })
  })
})

describe('without Redis', () => {
  const warnings = () => {
    const warn = vi.fn()
    return { warn, logger: Object.assign(Object.create(logger), { warn }) as Logger }
  }

  it('nothing is found and every task leads', async () => {
    const own = await cache({ redis: unreachableRedis() })
    expect(await own.get(key())).toBeNull()
    expect(await own.lookUp(key(), 'a', LEADS)).toEqual({ kind: 'lead' })
    expect(await own.lookUp(key(), 'a', AFRESH)).toEqual({ kind: 'lead' })
    expect(await own.put(key(), answer(), LIFE)).toBe(false)
    await own.releaseLead(key(), 'a')
  })

  it('that answers, callers wait briefly, the cache resumes with Redis, and one log line reports it', async () => {
    const proxy = await startProxy()
    const redis = await open(proxy.url)
    const { warn, logger } = warnings()
    const own = createCache({ redis, prefix: testPrefix(), logger, timeoutMs: 100 })
    const k = key()
    await own.put(k, answer(), LIFE)
    proxy.hang()
    // Redis does not answer from here on: the answers below prove that no caller waits for it.
    expect(await Promise.all([own.get(k), own.lookUp(k, 'a', LEADS)])).toEqual([null, { kind: 'lead' }])
    expect(await Promise.all([own.get(k), own.put(k, answer(), LIFE)])).toEqual([null, false])
    proxy.resume()
    await expect.poll(() => own.get(k), { timeout: 20_000 }).toMatchObject({ kind: 'fresh' })
    expect(warn).toHaveBeenCalledOnce()
  })

  it('that accepts writes, entries are still found', async () => {
    const redis = await open()
    const { warn, logger } = warnings()
    const own = createCache({ redis, prefix: testPrefix(), logger, timeoutMs: PATIENT_MS })
    const k = key()
    await own.put(k, answer(), LIFE)
    const commands = redis as unknown as Record<'sluiceCacheStore', () => Promise<unknown>>
    vi.spyOn(commands, 'sluiceCacheStore').mockRejectedValue(new Error('OOM command not allowed'))
    for (let i = 0; i < 3; i++) {
      expect(await own.put(k, answer(), LIFE)).toBe(false)
      expect(await own.get(k)).toMatchObject({ kind: 'fresh' })
    }
    expect(warn).toHaveBeenCalledOnce()
  })
})

/** The cache's Redis behind a server that can stop to answer without closing. */
async function startProxy() {
  const url = new URL(inject('cacheRedisUrl'))
  const pairs: { client: Socket; upstream: Socket }[] = []
  let hangs = false
  const server = createServer(client => {
    const upstream = connect(Number(port), url.hostname)
    client.pipe(upstream)
    if (!hangs) upstream.pipe(client)
    client.on('error', () => upstream.destroy())
    upstream.on('error', () => client.destroy())
    pairs.push({ client, upstream })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    for (const { client, upstream } of pairs) {
      client.destroy()
      upstream.destroy()
    }
    server.close()
  })
  const { port } = url
  url.port = String((server.address() as { port: number }).port)
  return {
    url: url.href,
    hang() {
      hangs = true
      for (const { client, upstream } of pairs) upstream.unpipe(client).pause()
    },
    resume() {
      hangs = false
      for (const { client, upstream } of pairs) upstream.pipe(client)
    },
  }
}
