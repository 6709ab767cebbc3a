import { createHash, randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Db } from '#shared/db/pool.ts'
import { newId } from '#shared/ids.ts'
import { createMetrics } from '#shared/metrics/metrics.ts'
import { createLogger } from '#shared/process/logger.ts'
import { ask, fileDatabase } from '#shared/testing/postgres.ts'
import { type S3, startS3 } from '#shared/testing/s3.ts'
import { FileLost, FilesUnavailable } from './backend.ts'
import { FILE_CHUNK_BYTES } from './file-chunks.ts'
import { createFileStore, type FileStore } from './store.ts'

const database = fileDatabase()
const logger = createLogger({ level: 'silent', name: 'test' })
const apiKeyId = randomUUID()
const meta = { apiKeyId, purpose: 'batch', filename: 'in.jsonl' }
let s3: S3
const credentials = { AWS_ACCESS_KEY_ID: 'id', AWS_SECRET_ACCESS_KEY: 'secret', AWS_REGION: 'us-east-1' }
beforeAll(async () => {
  s3 = await startS3()
})
afterAll(() => s3?.close())
beforeEach(async () => {
  for (const [name, value] of Object.entries(credentials)) vi.stubEnv(name, value)
  await ask(database.dbs[0], 'TRUNCATE files, file_chunks')
  s3.objects.clear()
  s3.uploads.clear()
  s3.fail(null)
})

const MIB = 1_048_576
const BACKENDS = ['postgres', 's3'] as const
const storeOf = (
  backend: (typeof BACKENDS)[number],
  { days = 30, db = database.dbs[0] as Db, metrics = createMetrics('api') } = {},
) =>
  createFileStore({
    db,
    logger,
    metrics,
    config: {
      FILE_RETENTION_DAYS: days,
      ...(backend === 's3' && { FILES_URL: 's3://bucket/a/prefix', FILES_S3_ENDPOINT: s3.url }),
    },
  })

async function put(store: FileStore, bytes: Uint8Array | string, more: object = {}) {
  const writer = await store.create({ ...meta, ...more })
  await writer.write(Buffer.from(bytes))
  return writer.finish()
}
async function contentOf(store: FileStore, id: string): Promise<Buffer | null> {
  const found = await store.read(id)
  if (!found) return null
  const parts: Uint8Array[] = []
  for await (const part of found.bytes) parts.push(part)
  return Buffer.concat(parts)
}
/** Everything that is stored. */
const left = async () => ({
  rows: (await ask<{ status: string }>(database.dbs[0], 'SELECT status FROM files')).map(row => row.status),
  pieces: Number((await ask<{ n: number }>(database.dbs[0], 'SELECT count(*)::int AS n FROM file_chunks'))[0]!.n),
  objects: s3.objects.size,
  uploads: s3.uploads.size,
})
const NOTHING = { rows: [], pieces: 0, objects: 0, uploads: 0 }
const sweepAll = async (store: FileStore) => {
  while (await store.sweep());
}
/** Bytes that do not repeat from chunk to chunk. */
const noise = (length: number, seed = 1) => {
  const bytes = Buffer.alloc(length)
  for (let i = 0, x = seed; i < length; i++) {
    x = (x * 1_103_515_245 + 12_345) & 0x7fffffff
    bytes[i] = x >>> 16
  }
  return bytes
}

describe.each(BACKENDS)('files in %s', backend => {
  it('return the written bytes for any split, with size and hash', async () => {
    const store = storeOf(backend)
    const part = fc.oneof(
      fc.uint8Array({ maxLength: 2000 }),
      // Sizes around a chunk, and of a part in S3.
      fc.integer({ min: FILE_CHUNK_BYTES - 2, max: FILE_CHUNK_BYTES + 2 }).map(length => noise(length)),
      fc.constant(noise(3 * MIB + 7, 5)),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(part, { maxLength: 7 }), async parts => {
        const writer = await store.create(meta)
        for (const one of parts) {
          // A caller may reuse its buffer.
          const mine = Uint8Array.from(one)
          await writer.write(mine)
          mine.fill(0)
        }
        const bytes = Buffer.concat(parts)
        const file = await writer.finish()
        expect(file).toMatchObject({ id: writer.id, status: 'processed', storage: backend, bytes: bytes.length })
        expect(file.sha256!.equals(createHash('sha256').update(bytes).digest())).toBe(true)
        expect((await contentOf(store, file.id))!.equals(bytes)).toBe(true)
      }),
      { numRuns: 25 },
    )
  })

  it('are visible when finished, and not before', async () => {
    const store = storeOf(backend)
    const writer = await store.create(meta)
    await writer.write(noise(3 * MIB))
    expect(await store.find(writer.id)).toBeNull()
    expect(await store.read(writer.id)).toBeNull()
    expect((await store.list({ apiKeyId, limit: 9, order: 'asc' })).rows).toEqual([])
    expect(await store.remove(writer.id)).toBe(false)
    const row = await writer.finish({ purpose: 'batch_output', expiresSeconds: 3600 })
    expect(row).toMatchObject({ purpose: 'batch_output', filename: 'in.jsonl', api_key_id: apiKeyId })
    expect(row.expires_at!.getTime() - row.created_at.getTime()).toBe(3_600_000)
    expect(await store.find(writer.id)).toEqual(row)
    expect((await store.list({ apiKeyId, limit: 9, order: 'asc' })).rows).toEqual([row])
  })

  it('leave nothing behind when aborted at any point', async () => {
    const store = storeOf(backend)
    for (const size of [0, 0.1, 1, 3, 12.5]) {
      const writer = await store.create(meta)
      await writer.write(noise(size * MIB))
      await writer.abort()
      await expect(writer.write(noise(1))).rejects.toThrow(FileLost)
      await expect(writer.finish()).rejects.toThrow(FileLost)
      expect(await left(), `${size} MiB`).toEqual(NOTHING)
    }
  })

  it('are not affected by an abort after the end', async () => {
    const store = storeOf(backend)
    const writer = await store.create(meta)
    await writer.write(Buffer.from('kept'))
    await writer.finish()
    await writer.abort()
    expect(String(await contentOf(store, writer.id))).toBe('kept')
    await expect(writer.finish()).rejects.toThrow(FileLost)
  })

  it('of a dead process are deleted, and its later writes are refused', async () => {
    const metrics = createMetrics('api')
    const store = storeOf(backend, { metrics })
    const dead = await store.create(meta)
    await dead.write(noise(11 * MIB))
    // The rest that was not written yet when `write` returned.
    const begun = backend === 'postgres' ? { pieces: (11 * MIB) / FILE_CHUNK_BYTES } : { uploads: 1 }
    await vi.waitFor(async () => expect(await left()).toMatchObject(begun), 20_000)
    await database.clock.advance(500)
    const alive = await store.create(meta)
    await alive.write(Buffer.from('alive'))
    await database.clock.advance(200)
    await sweepAll(store)
    expect((await left()).rows).toEqual(['uploading'])
    if (backend === 's3') expect(s3.uploads.size).toBe(0)
    await expect(dead.finish()).rejects.toThrow()
    await dead.abort()
    await alive.finish()
    expect(await left()).toMatchObject({ rows: ['processed'], uploads: 0 })
    expect(String(await contentOf(store, alive.id))).toBe('alive')
    expect((await metrics.swept.get()).values).toEqual([
      expect.objectContaining({ labels: { what: 'files' }, value: 1 }),
    ])
  })

  it('with slow writes are not treated as dead', async () => {
    const store = storeOf(backend)
    const writer = await store.create(meta)
    await ask(database.dbs[0], `UPDATE files SET touched_at = touched_at - interval '500 seconds'`)
    expect(await store.sweep()).toBe(false)
    await writer.write(noise(FILE_CHUNK_BYTES))
    expect((await writer.finish()).status).toBe('processed')
  })

  it('are hidden at once when deleted, and their bytes are deleted in slices', async () => {
    const store = storeOf(backend)
    const [file, other] = [await put(store, noise(20 * MIB)), await put(store, 'other')]
    expect(await store.remove(file.id)).toBe(true)
    expect(await store.remove(file.id)).toBe(false)
    expect(await store.find(file.id)).toBeNull()
    expect(await store.read(file.id)).toBeNull()
    expect((await store.list({ apiKeyId, limit: 9, order: 'asc' })).rows).toEqual([other])
    await sweepAll(store)
    expect((await left()).rows).toEqual(['processed'])
    expect(String(await contentOf(store, other.id))).toBe('other')
    await store.remove(other.id)
    await sweepAll(store)
    expect(await left()).toEqual(NOTHING)
    expect(await store.remove(randomUUID())).toBe(false)
  })

  it('expire by the settings, by their own time, or never', async () => {
    const day = 86_400
    const store = storeOf(backend)
    const [byDefault, soon, never] = [
      await put(store, 'a'),
      await put(store, 'b', { expiresSeconds: 3600 }),
      await put(store, 'c', { expiresSeconds: null }),
    ]
    const forever = await put(storeOf(backend, { days: 0 }), 'd')
    expect(byDefault.expires_at!.getTime() - byDefault.created_at.getTime()).toBe(30 * day * 1000)
    await database.clock.advance(3601)
    expect(await store.find(soon.id)).toBeNull()
    expect(await store.remove(soon.id)).toBe(false)
    await database.clock.advance(30 * day)
    expect(await store.find(byDefault.id)).toBeNull()
    await sweepAll(store)
    expect((await store.list({ apiKeyId, limit: 9, order: 'asc' })).rows).toEqual([never, forever])
    expect((await left()).rows).toHaveLength(2)
  })

  it('can be written again under their id, and a former writer changes nothing', async () => {
    const store = storeOf(backend)
    const id = newId()
    const former = await store.create({ ...meta, id })
    await former.write(noise(2 * MIB))
    const writer = await store.create({ ...meta, id })
    await writer.write(Buffer.from('the '))
    const lost = former.write(noise(12 * MIB)).then(() => former.finish())
    await expect(lost).rejects.toThrow()
    await former.abort()
    await writer.write(Buffer.from('second'))
    await writer.finish()
    expect(String(await contentOf(store, id))).toBe('the second')
    // A process may die between finishing the file and recording that.
    const third = await store.create({ ...meta, id })
    await third.write(Buffer.from('third'))
    expect(await store.find(id)).toBeNull()
    await third.finish()
    expect(String(await contentOf(store, id))).toBe('third')
    await store.remove(id)
    await sweepAll(store)
    expect(await left()).toEqual(NOTHING)
  })

  it('report deletion during a read', async () => {
    const store = storeOf(backend)
    const { id } = await put(store, noise(9 * MIB))
    const reading = (await store.read(id))!.bytes[Symbol.asyncIterator]()
    if (backend === 'postgres') await reading.next()
    await store.remove(id)
    await sweepAll(store)
    const rest = async () => {
      while (!(await reading.next()).done);
    }
    await expect(rest()).rejects.toThrow(FileLost)
  })
})

describe('a list of files', () => {
  it('has pages in either order, of one key or all keys, by purpose', async () => {
    const store = storeOf('postgres')
    const other = randomUUID()
    const mine: string[] = []
    for (let i = 0; i < 5; i++) {
      mine.push((await put(store, 'x', { purpose: i % 2 ? 'batch_output' : 'batch' })).id)
      await put(store, 'y', { apiKeyId: other })
    }
    async function pages(query: object, order: 'asc' | 'desc', limit: number) {
      const ids: string[] = []
      for (let after: string | undefined; ; after = ids.at(-1)!) {
        const page = await store.list({ apiKeyId, order, limit, ...query, ...(after && { after }) })
        ids.push(...page.rows.map(row => row.id))
        expect(page.rows.length).toBeLessThanOrEqual(limit)
        if (!page.more) return ids
      }
    }
    for (const limit of [1, 2, 5, 100]) {
      expect(await pages({}, 'asc', limit)).toEqual(mine)
      expect(await pages({}, 'desc', limit)).toEqual(mine.toReversed())
      expect(await pages({ purpose: 'batch_output' }, 'asc', limit)).toEqual([mine[1], mine[3]])
      expect(await pages({ apiKeyId: null }, 'desc', limit)).toHaveLength(10)
    }
  })
})

describe('memory', () => {
  it('holds a few chunks while 100 MiB are written, and one chunk ahead while they are read', async () => {
    let [held, most, reading] = [0, 0, 0]
    const db: Db = {
      ...database.dbs[0],
      async query(statement, values = []) {
        const bytes = statement.name === 'files_append' ? (values[3] as Buffer).length : 0
        if (statement.name === 'files_read') reading++
        held += bytes
        most = Math.max(most, held)
        return database.dbs[0].query<never>(statement, values).finally(() => {
          held -= bytes
          if (statement.name === 'files_read') reading--
        })
      },
    }
    const store = storeOf('postgres', { db })
    const writer = await store.create(meta)
    const chunk = noise(65_536)
    for (let i = 0; i < 1600; i++) {
      await writer.write(chunk)
      expect(held).toBeLessThanOrEqual(FILE_CHUNK_BYTES)
    }
    const { bytes, id } = await writer.finish()
    expect({ bytes, most }).toEqual({ bytes: 100 * MIB, most: FILE_CHUNK_BYTES })
    let seen = 0
    for await (const piece of (await store.read(id))!.bytes) {
      expect(piece.length).toBeLessThanOrEqual(FILE_CHUNK_BYTES)
      expect(reading).toBeLessThanOrEqual(1)
      seen += piece.length
    }
    expect(seen).toBe(bytes)
  })
})

describe('a sweep', () => {
  it('deletes large files in slices', async () => {
    const store = storeOf('postgres')
    const file = await put(store, noise(40 * FILE_CHUNK_BYTES))
    const sliced: number[] = []
    const db: Db = {
      ...database.dbs[0],
      async query(statement, values) {
        const rows = await database.dbs[0].query<never>(statement, values)
        if (statement.name === 'files_delete_chunks') sliced.push(rows.length)
        return rows
      },
    }
    await store.remove(file.id)
    await sweepAll(storeOf('postgres', { db }))
    expect(sliced).toEqual([32, 8])
    expect(await left()).toEqual(NOTHING)
  })
})

describe('S3', () => {
  it('unavailable: an upload fails, and is deleted when S3 is back', async () => {
    const store = storeOf('s3')
    s3.fail(/./, 403)
    const writer = await store.create(meta)
    const writing = writer.write(noise(30 * MIB)).then(() => writer.finish())
    await expect(writing).rejects.toThrow(FilesUnavailable)
    await writer.abort()
    expect((await left()).rows).toEqual(['deleting'])
    // A file that cannot be deleted does not block the others.
    const behind = await put(storeOf('postgres'), 'behind it')
    await store.remove(behind.id)
    expect((await left()).rows).toEqual(['deleting', 'deleting'])
    expect(await store.sweep()).toBe(false)
    expect(await left()).toMatchObject({ rows: ['deleting'], pieces: 0 })
    s3.fail(null)
    await sweepAll(store)
    expect(await left()).toEqual(NOTHING)
  })

  it('keeps its files when new files go to Postgres, and vice versa', async () => {
    const [there, here] = [storeOf('s3'), storeOf('postgres')]
    const [a, b] = [await put(there, 'there'), await put(here, 'here')]
    expect(String(await contentOf(there, b.id))).toBe('here')
    await expect(contentOf(here, a.id)).rejects.toThrow(/FILES_URL is not set/)
    expect([...s3.objects.keys()]).toEqual([expect.stringMatching(`^a/prefix/${a.id}-\\d+$`)])
  })
})
