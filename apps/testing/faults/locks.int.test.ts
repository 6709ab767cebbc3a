import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { LEGACY_LOCKS } from '#shared/db/locks.ts'
import { fromWire } from '#shared/ids.ts'
import { craft } from '#shared/testing/craft-hash.ts'
import { type Cluster, PATIENT, startCluster, until } from './cluster.ts'

vi.setConfig(PATIENT)

/** Lock numbers of earlier versions: migrate, sweep, dispatch, limits, files. */
const EARLIER = [0, 1, 2, 3, 4].map(n => BigInt(LEGACY_LOCKS.migrate + n))

let cluster: Cluster
beforeAll(async () => {
  cluster = await startCluster({ workers: 0 })
})
afterAll(() => cluster?.close())

async function makeKey(scopes: string[]) {
  const { body } = await cluster.api.call('POST', '/api/v1/keys', { body: { name: 'an application', scopes } })
  return { id: fromWire('key', body.id)!, secret: body.key as string }
}

/** An Idempotency-Key of this API key whose hash, as earlier versions computed it, is `hash`. */
function crafted(apiKeyId: string, hash: bigint): string {
  const random = randomUUID().slice(0, 12)
  return random + craft(apiKeyId + random, hash)
}

/** Another connection holds an uncommitted row with this Idempotency-Key: a submit with the key is in flight until `work` ends. */
async function withKeyHeld(apiKeyId: string, key: string, work: () => Promise<unknown>): Promise<void> {
  const holder = new pg.Client({ connectionString: cluster.databaseUrl })
  await holder.connect()
  try {
    await holder.query('BEGIN')
    await holder.query(
      `INSERT INTO idempotency_keys (api_key_id, key, task_id, request_hash, expires_at) VALUES ($1, $2, $3, '', now() + interval '1 hour')`,
      [apiKeyId, key, randomUUID()],
    )
    await work()
  } finally {
    await holder.end()
  }
}

const LOCKS = `pg_locks l JOIN pg_database d ON d.oid = l.database
  WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()`
const WAITING = `pg_stat_activity WHERE datname = current_database() AND wait_event = 'transactionid' AND query LIKE '%idempotency_keys%'`

/** The sweeping process loses its connection and its lock, and must acquire it again. */
const loseLocks = () =>
  cluster.sql(`SELECT pg_terminate_backend(l.pid) FROM ${LOCKS} AND l.pid NOT IN (SELECT pid FROM ${WAITING})`)

/** Submits until a submit waits for the row that `withKeyHeld` holds. */
async function beInFlight(secret: string, key: string): Promise<void> {
  await until('a submit is in flight', async () => {
    await loseLocks()
    const answered = cluster.api.post('[[in flight]]', { key: secret, headers: { 'idempotency-key': key } }).then(
      () => 'answered',
      () => 'answered',
    )
    const waits = until('it waits', async () => (await cluster.count(WAITING)) > 0).then(
      () => 'waits',
      () => 'not seen',
    )
    return (await Promise.race([answered, waits])) === 'waits'
  })
}

test('the crafted keys have the hashes that they are crafted for', async () => {
  const id = randomUUID()
  const key = crafted(id, EARLIER[1]!)
  const rows = await cluster.sql('SELECT hashtextextended($1 || $2, 0)::text AS hash', [id, key])
  expect(rows).toEqual([{ hash: String(EARLIER[1]) }])
})

test('no Idempotency-Key collides with a lock of the fleet: each crafted key is accepted while the lock is held', async () => {
  const { id, secret } = await makeKey(['submit'])
  // The locks use two numbers, which no hash of a key does.
  await until(
    'the sweeper and the dispatcher hold theirs',
    async () => (await cluster.count(`${LOCKS} AND l.objsubid = 2`)) >= 2,
  )
  expect(await cluster.count(`${LOCKS} AND l.objsubid = 1`)).toBe(0)
  for (const hash of EARLIER) {
    const headers = { 'idempotency-key': crafted(id, hash) }
    expect(await cluster.api.post('[[crafted]]', { key: secret, headers })).toMatchObject({ status: 202 })
  }
})

test('a submit in flight under a crafted key does not block the sweeper', async () => {
  const { id, secret } = await makeKey(['submit'])
  const key = crafted(id, EARLIER[1]!)
  await withKeyHeld(id, key, async () => {
    await beInFlight(secret, key)
    await loseLocks()
    // Longer than the turn of a sweeper that continues without its lock.
    const late = await cluster.api.submit('[[late]]', { options: { deadline_seconds: 8 } })
    await until('the sweeper ends it', async () => (await cluster.api.task(late)).status === 'expired')
    expect(await cluster.count(WAITING)).toBe(1)
  })
})

test('a key of one application cannot be crafted to block the submits of another', async () => {
  const [attacker, victim] = await Promise.all([makeKey(['submit']), makeKey(['submit'])])
  const text = 'SELECT hashtextextended($1 || $2, 0)::text AS hash'
  const [row] = await cluster.sql<{ hash: string }>(text, [victim.id, 'order-1'])
  const key = crafted(attacker.id, BigInt(row!.hash))
  // Within one process, requests with Idempotency-Keys share their statements.
  const other = await cluster.startApi()
  await withKeyHeld(attacker.id, key, async () => {
    await beInFlight(attacker.secret, key)
    const headers = { 'idempotency-key': 'order-1' }
    expect(await other.post('[[victim]]', { key: victim.secret, headers })).toMatchObject({ status: 202 })
    expect(await cluster.count(WAITING)).toBe(1)
  })
})
