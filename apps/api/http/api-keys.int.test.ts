import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { type ApiKey, pruneKeySecrets, revokeKey } from '#shared/db/keys.ts'
import type { Db } from '#shared/db/pool.ts'
import { newId } from '#shared/ids.ts'
import { now, setClock } from '#shared/process/clock.ts'
import { ask, fileDatabase } from '#shared/testing/postgres.ts'
import { createApiKeys } from './api-keys.ts'

const database = fileDatabase(4)

/** The key cache of one process with a clock that the test sets, and the number of its queries. */
function process() {
  const [db] = database.dbs
  let time = 0
  const asked: Buffer[][] = []
  const counting: Db = {
    ...db,
    query: (statement, values) => {
      if (statement.name === 'keys_find') asked.push(values![0] as Buffer[])
      return db.query(statement, values)
    },
  }
  return {
    apiKeys: createApiKeys(counting, () => time),
    asked,
    pass: (ms: number) => {
      time += ms
    },
  }
}
const NEW = { name: 'an application', scopes: ['submit' as const], requests_per_minute: 7 }

describe('a key', () => {
  it('is found by its secret; Postgres stores a hash and the last four characters', async () => {
    const { apiKeys } = process()
    const { key, secret } = await apiKeys.create(NEW)
    expect(key).toMatchObject({ name: 'an application', scopes: ['submit'], requests_per_minute: 7 })
    expect(await apiKeys.find(secret)).toEqual({ ...key, secret_expires_at: null })
    expect(await apiKeys.find(`${secret}x`)).toBeNull()
    const [row] = await ask<{ whole: string; hint: string; secret_hash: Buffer }>(
      database.dbs[0],
      'SELECT k::text AS whole, hint, secret_hash FROM api_keys k',
    )
    expect(row!.whole).not.toContain(secret)
    expect(row!.hint).toBe(secret.slice(-4))
    expect(row!.secret_hash).toEqual(createHash('sha256').update(secret).digest())
  })

  it('is looked up at most every 2.5 s, known or not', async () => {
    const { apiKeys, asked, pass } = process()
    const { key, secret } = await apiKeys.create(NEW)
    for (const [one, found] of [
      [secret, { ...key, secret_expires_at: null }],
      ['a guess', null],
    ] as const) {
      asked.length = 0
      await apiKeys.find(one)
      pass(2499)
      expect(await apiKeys.find(one)).toEqual(found)
      expect(asked).toHaveLength(1)
      pass(1)
      expect(await apiKeys.find(one)).toEqual(found)
      expect(asked).toHaveLength(2)
    }
  })

  it('is looked up in one query for concurrent requests', async () => {
    const { apiKeys, asked } = process()
    const made = [await apiKeys.create(NEW), await apiKeys.create(NEW)]
    const secrets = [made[0]!.secret, 'a guess', made[1]!.secret, made[0]!.secret]
    const found = await Promise.all(secrets.map(secret => apiKeys.find(secret)))
    expect(found.map(key => key?.id ?? null)).toEqual([made[0]!.key.id, null, made[1]!.key.id, made[0]!.key.id])
    expect(asked).toHaveLength(1)
  })

  it('is refused at once by the process that revoked it, and within 5 s by others', async () => {
    const [here, elsewhere] = [process(), process()]
    const { key, secret } = await here.apiKeys.create(NEW)
    for (const { apiKeys } of [here, elsewhere]) expect(await apiKeys.find(secret)).not.toBeNull()
    await revokeKey(database.dbs[0], key.id)
    here.apiKeys.invalidate(key.id)
    expect(await here.apiKeys.find(secret)).toBeNull()
    elsewhere.pass(2500)
    expect(await elsewhere.apiKeys.find(secret)).toBeNull()
  })

  it('notifies its watchers at each check after it was revoked or replaced', async () => {
    const { apiKeys, asked } = process()
    const made = [await apiKeys.create(NEW), await apiKeys.create(NEW)] as const
    await apiKeys.installAdmin('the first')
    const [one, other] = made.map(({ key }) => key) as [ApiKey, ApiKey]
    const admin = (await apiKeys.find('the first'))!
    const calls: string[] = []
    const unwatch = apiKeys.watch(one, () => calls.push('one'))
    apiKeys.watch(one, () => calls.push('one again'))
    apiKeys.watch(other, () => calls.push('other'))
    apiKeys.watch(admin, () => calls.push('admin'))
    await apiKeys.find(made[0].secret)
    asked.length = 0
    await apiKeys.recheckWatched()
    expect(calls).toEqual([])
    // One query for any number of watchers.
    expect(asked.map(hashes => hashes.length)).toEqual([3])

    await revokeKey(database.dbs[0], one.id)
    await process().apiKeys.installAdmin('the second')
    await apiKeys.recheckWatched()
    expect(calls.toSorted()).toEqual(['admin', 'one', 'one again'])
    expect(await apiKeys.find(made[0].secret)).toBeNull()
    unwatch()
    await apiKeys.recheckWatched()
    expect(calls.slice(3).toSorted()).toEqual(['admin', 'one again'])
  })

  it('that expires is refused from that time on, also from the cache, and its watchers are notified', async () => {
    const { apiKeys, asked } = process()
    const expires = new Date(now() + 60_000)
    const { key, secret } = await apiKeys.create({ ...NEW, expires_at: expires })
    const calls: string[] = []
    apiKeys.watch(key, () => calls.push('expired'))
    expect(await apiKeys.find(secret)).toMatchObject({ expires_at: expires })
    await apiKeys.recheckWatched()
    expect(calls).toEqual([])
    asked.length = 0
    const before = now()
    setClock(expires.getTime())
    try {
      await expect(apiKeys.find(secret)).rejects.toMatchObject({ code: 'api_key_expired' })
      expect(asked).toEqual([])
      await apiKeys.recheckWatched()
      expect(calls).toEqual(['expired'])
    } finally {
      setClock(before)
    }
  })

  it('is found by its old secret until the overlap ends; both secrets are the same key', async () => {
    const { apiKeys } = process()
    const { key, secret: first } = await apiKeys.create(NEW)
    const rotated = (await apiKeys.rotate(key.id, 60))!
    expect(rotated.key).toMatchObject({ id: key.id, previous_secrets: [{ hint: first.slice(-4) }] })
    expect(await apiKeys.find(rotated.secret)).toMatchObject({ id: key.id, secret_expires_at: null })
    apiKeys.invalidate(key.id)
    const old = (await apiKeys.find(first))!
    expect(old).toMatchObject({ id: key.id, secret_expires_at: expect.any(Date) })
    const before = now()
    setClock(old.secret_expires_at!.getTime())
    expect(await apiKeys.find(first)).toBeNull()
    setClock(before)

    // Without overlap, all earlier secrets end.
    const last = (await apiKeys.rotate(key.id, 0))!
    expect(last.key.previous_secrets).toEqual([])
    const { apiKeys: elsewhere } = process()
    const found = await Promise.all([first, rotated.secret, last.secret].map(one => elsewhere.find(one)))
    expect(found.map(one => one?.id ?? null)).toEqual([null, null, key.id])
    expect(await apiKeys.rotate(newId(), 0)).toBeNull()
    await pruneKeySecrets(database.dbs[0])
    expect(await ask(database.dbs[0], 'SELECT hint FROM retired_key_secrets')).toEqual([])
  })

  it('has one live secret after two rotations at once without overlap', async () => {
    const { apiKeys } = process()
    const { key, secret } = await apiKeys.create(NEW)
    const rotations = await Promise.all([apiKeys.rotate(key.id, 0), apiKeys.rotate(key.id, 0)])
    const secrets = [secret, ...rotations.map(one => one!.secret)]
    const found = await Promise.all(secrets.map(one => apiKeys.find(one)))
    expect(found.filter(Boolean)).toHaveLength(1)
    expect(found[0]).toBeNull()
  })

  it('stays valid from the cache during an outage; unknown keys fail with the outage', async () => {
    const { apiKeys } = process()
    const { key, secret } = await apiKeys.create(NEW)
    let away = false
    const db: Db = {
      ...database.dbs[0],
      query: (...asked) => (away ? Promise.reject(new Error('away')) : database.dbs[0].query(...asked)),
    }
    const other = createApiKeys(db, () => 0)
    await other.find(secret)
    away = true
    expect(await other.find(secret)).toMatchObject(key)
    await expect(other.find('a guess')).rejects.toThrow('away')
    away = false
    expect(await other.find('a guess')).toBeNull()
  })
})

it('the cache of lookups is bounded and evicts the oldest', async () => {
  const { apiKeys, asked } = process()
  const { secret } = await apiKeys.create(NEW)
  await apiKeys.find(secret)
  const guess = async (from: number, to: number) => {
    for (let n = from; n < to; n += 500)
      await Promise.all(Array.from({ length: Math.min(500, to - n) }, (_, more) => apiKeys.find(`guess ${n + more}`)))
  }
  await guess(0, 9999)
  asked.length = 0
  await apiKeys.find(secret)
  expect(asked).toHaveLength(0)
  await guess(9999, 10_000)
  await apiKeys.find(secret)
  expect(asked).toHaveLength(2)
})

describe('the admin key', () => {
  it('is installed by any number of processes at once', async () => {
    const rings = database.dbs.map(db => createApiKeys(db))
    for (let n = 0; n < 20; n++) {
      await ask(database.dbs[0], 'TRUNCATE api_keys')
      await Promise.all([...rings, ...rings].map(one => one.installAdmin('the secret of all')))
      expect(await rings[0]!.find('the secret of all')).not.toBeNull()
    }
  })

  it('has all scopes; a new secret replaces it under the same id', async () => {
    const { apiKeys } = process()
    await apiKeys.installAdmin('the first')
    const first = await apiKeys.find('the first')
    expect(first).toMatchObject({ name: 'admin', scopes: ['submit', 'read', 'admin'], requests_per_minute: null })
    const restarted = process().apiKeys
    await restarted.installAdmin('the second')
    expect(await restarted.find('the first')).toBeNull()
    expect(await restarted.find('the second')).toMatchObject({ id: first!.id })
  })

  it('is restored at restart after it was revoked', async () => {
    const { apiKeys } = process()
    await apiKeys.installAdmin('mine')
    const { id } = (await apiKeys.find('mine'))!
    await revokeKey(database.dbs[0], id)
    expect(await process().apiKeys.find('mine')).toBeNull()
    const restarted = process().apiKeys
    await restarted.installAdmin('mine')
    expect(await restarted.find('mine')).toMatchObject({ id })
  })
})
