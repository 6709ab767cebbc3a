import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { revokeKey } from '#shared/db/keys.ts'
import type { Db } from '#shared/db/pool.ts'
import { ask, fileDatabase } from '#shared/testing/postgres.ts'
import { createKeyRing } from './key-ring.ts'

const database = fileDatabase(4)

/** The ring of one process, whose time the test sets, and how often it has asked Postgres for keys. */
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
    ring: createKeyRing(counting, () => time),
    asked,
    pass: (ms: number) => {
      time += ms
    },
  }
}
const NEW = { name: 'an application', scopes: ['submit' as const], requestsPerMinute: 7, weight: 1 }

describe('a key', () => {
  it('is found by its secret, of which Postgres has the hash and the last four characters', async () => {
    const { ring } = process()
    const { key, secret } = await ring.create(NEW)
    expect(key).toMatchObject({ name: 'an application', scopes: ['submit'], requests_per_minute: 7 })
    expect(await ring.find(secret)).toEqual(key)
    expect(await ring.find(`${secret}x`)).toBeNull()
    const [row] = await ask<{ whole: string; hint: string; secret_hash: Buffer }>(
      database.dbs[0],
      'SELECT k::text AS whole, hint, secret_hash FROM api_keys k',
    )
    expect(row!.whole).not.toContain(secret)
    expect(row!.hint).toBe(secret.slice(-4))
    expect(row!.secret_hash).toEqual(createHash('sha256').update(secret).digest())
  })

  it('is looked up once in five seconds, whether there is one or not', async () => {
    const { ring, asked, pass } = process()
    const { key, secret } = await ring.create(NEW)
    for (const [one, found] of [
      [secret, key],
      ['a guess', null],
    ] as const) {
      asked.length = 0
      await ring.find(one)
      pass(4999)
      expect(await ring.find(one)).toEqual(found)
      expect(asked).toHaveLength(1)
      pass(1)
      expect(await ring.find(one)).toEqual(found)
      expect(asked).toHaveLength(2)
    }
  })

  it('that is wanted by many requests at once is looked up with the others in one query', async () => {
    const { ring, asked } = process()
    const made = [await ring.create(NEW), await ring.create(NEW)]
    const secrets = [made[0]!.secret, 'a guess', made[1]!.secret, made[0]!.secret]
    const found = await Promise.all(secrets.map(secret => ring.find(secret)))
    expect(found.map(key => key?.id ?? null)).toEqual([made[0]!.key.id, null, made[1]!.key.id, made[0]!.key.id])
    expect(asked).toHaveLength(1)
  })

  it('that was revoked is refused at once where that is known, and within five seconds elsewhere', async () => {
    const [here, elsewhere] = [process(), process()]
    const { key, secret } = await here.ring.create(NEW)
    for (const { ring } of [here, elsewhere]) expect(await ring.find(secret)).not.toBeNull()
    await revokeKey(database.dbs[0], key.id)
    here.ring.forget(key.secret_hash)
    expect(await here.ring.find(secret)).toBeNull()
    elsewhere.pass(5000)
    expect(await elsewhere.ring.find(secret)).toBeNull()
  })

  it('is not forgotten for an outage: who was let in goes on for five seconds, and who was not learns nothing', async () => {
    const { ring } = process()
    const { key, secret } = await ring.create(NEW)
    let away = false
    const db: Db = {
      ...database.dbs[0],
      query: (...asked) => (away ? Promise.reject(new Error('away')) : database.dbs[0].query(...asked)),
    }
    const other = createKeyRing(db, () => 0)
    await other.find(secret)
    away = true
    expect(await other.find(secret)).toEqual(key)
    await expect(other.find('a guess')).rejects.toThrow('away')
    away = false
    expect(await other.find('a guess')).toBeNull()
  })
})

it('guesses drive out what was remembered longest ago, and do not add up', async () => {
  const { ring, asked } = process()
  const { secret } = await ring.create(NEW)
  await ring.find(secret)
  const guess = async (from: number, to: number) => {
    for (let n = from; n < to; n += 500)
      await Promise.all(Array.from({ length: Math.min(500, to - n) }, (_, more) => ring.find(`guess ${n + more}`)))
  }
  await guess(0, 9999)
  asked.length = 0
  await ring.find(secret)
  expect(asked).toHaveLength(0)
  await guess(9999, 10_000)
  await ring.find(secret)
  expect(asked).toHaveLength(2)
})

describe('the operator’s key', () => {
  it('is installed by any number of processes at once', async () => {
    const rings = database.dbs.map(db => createKeyRing(db))
    for (let n = 0; n < 20; n++) {
      await ask(database.dbs[0], 'TRUNCATE api_keys')
      await Promise.all([...rings, ...rings].map(one => one.installAdmin('the secret of all')))
      expect(await rings[0]!.find('the secret of all')).not.toBeNull()
    }
  })

  it('may do everything, and the next one takes its place under the same id', async () => {
    const { ring } = process()
    await ring.installAdmin('the first')
    const first = await ring.find('the first')
    expect(first).toMatchObject({ name: 'admin', scopes: ['submit', 'read', 'admin'], requests_per_minute: null })
    const restarted = process().ring
    await restarted.installAdmin('the second')
    expect(await restarted.find('the first')).toBeNull()
    expect(await restarted.find('the second')).toMatchObject({ id: first!.id })
  })

  it('comes back when it had been revoked', async () => {
    const { ring } = process()
    await ring.installAdmin('mine')
    const { id } = (await ring.find('mine'))!
    await revokeKey(database.dbs[0], id)
    expect(await process().ring.find('mine')).toBeNull()
    const restarted = process().ring
    await restarted.installAdmin('mine')
    expect(await restarted.find('mine')).toMatchObject({ id })
  })
})
