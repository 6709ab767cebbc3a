import { createHash } from 'node:crypto'
import type { Config } from '#shared/config.ts'
import {
  deleteFile,
  type FileQuery,
  type FileRow,
  findFile,
  finishFile,
  hideFile,
  insertFile,
  listDeletedFiles,
  listFiles,
  markFileDeleted,
  markOutdatedFilesDeleted,
  postponeFile,
  type StoredFile,
  touchFile,
} from '#shared/db/files.ts'
import { type Db, isUnavailable } from '#shared/db/pool.ts'
import { newId } from '#shared/ids.ts'
import type { Metrics } from '#shared/metrics/metrics.ts'
import type { Logger } from '#shared/process/logger.ts'
import { type Backend, FileLost, FilesUnavailable } from './backend.ts'
import { createChunkWriter } from './file-chunks.ts'
import { createPostgresBackend } from './postgres.ts'
import { createS3Backend } from './s3.ts'

export type { FileRow } from '#shared/db/files.ts'

const DAY_SECONDS = 86_400
/** A chunk that does not fill up is written after this time, so that a slow upload does not seem dead. */
const CHUNK_MS = 30_000
/** An upload without writes for this time has lost its process. */
const SILENT_SECONDS = 600
/** Files per sweep. */
const FILES = 100
/** Slices deleted per sweep. */
const SLICES = 20

export type NewFileMeta = {
  id?: string
  apiKeyId: string
  purpose: string
  filename: string
  /** null: never; undefined: by the settings. */
  expiresSeconds?: number | null
}

export type FileWriter = {
  readonly id: string
  /** Writes bytes, with back-pressure: at most two chunks are held. @throws FileLost, FilesUnavailable */
  write(bytes: Uint8Array): Promise<void>
  /** Makes the file visible. `purpose` can be given here, because a multipart form may send it after the file. */
  finish(more?: { purpose?: string; expiresSeconds?: number | null }): Promise<FileRow>
  /** Deletes the file. Never rejects. Does nothing after `finish` has resolved. */
  abort(): Promise<void>
}

export type FileStore = {
  /** With an `id`, deletes what a dead process wrote under it, so that writing an output can be repeated. */
  create(meta: NewFileMeta): Promise<FileWriter>
  /** Reads a file in chunks. @returns null: no such file */
  read(id: string): Promise<{ file: FileRow; bytes: AsyncIterable<Uint8Array> } | null>
  find(id: string): Promise<FileRow | null>
  /** In order of ids, which is by time. */
  list(query: FileQuery): Promise<{ rows: FileRow[]; more: boolean }>
  /** Hides the file at once; its bytes are deleted later. @returns false: no such file */
  remove(id: string): Promise<boolean>
  /** For the sweeper: deletes some of the expired and deleted files and dead uploads. @returns true: there is more to do */
  sweep(): Promise<boolean>
}

export type FileStoreDeps = {
  db: Db
  config: Pick<Config, 'FILES_URL' | 'FILES_S3_ENDPOINT' | 'FILE_RETENTION_DAYS' | 'proxies'>
  logger: Logger
  metrics?: Pick<Metrics, 'swept'>
}

export function createFileStore({ db, config, logger, metrics }: FileStoreDeps): FileStore {
  const storage: FileRow['storage'] = config.FILES_URL ? 's3' : 'postgres'
  const backends: Record<FileRow['storage'], Backend> = {
    postgres: createPostgresBackend(db),
    s3: createS3Backend({
      url: config.FILES_URL,
      endpoint: config.FILES_S3_ENDPOINT,
      proxies: config.proxies,
      touch: file => touchFile(db, file),
    }),
  }
  const retention = config.FILE_RETENTION_DAYS === 0 ? null : config.FILE_RETENTION_DAYS * DAY_SECONDS

  /** Deletes the bytes and the row of a deleted file, at most `slices`. @returns the slices left; 0: there may be more bytes */
  async function dispose(file: StoredFile, slices: number): Promise<number> {
    while (slices > 0 && (await backends[file.storage].drop(file))) slices--
    if (slices > 0 && (await deleteFile(db, file))) metrics?.swept.inc({ what: 'files' })
    return slices
  }

  async function abandon(id: string, version: string | null): Promise<void> {
    const file = await markFileDeleted(db, id, version)
    if (file) await dispose(file, Number.POSITIVE_INFINITY)
  }

  function writer(file: StoredFile): FileWriter {
    const sink = backends[file.storage].open(file)
    const hash = createHash('sha256')
    const chunks = createChunkWriter({ write: sink.write, maxAgeMs: CHUNK_MS, now: () => performance.now() })
    let state: 'open' | 'finished' | 'over' = 'open'
    return {
      id: file.id,
      async write(bytes) {
        if (state !== 'open') throw new FileLost(`file ${file.id} is closed`)
        hash.update(bytes)
        await chunks.add(bytes)
      },
      async finish({ purpose, expiresSeconds } = {}) {
        if (state !== 'open') throw new FileLost(`file ${file.id} is closed`)
        await chunks.flush()
        await sink.end()
        const end = { bytes: chunks.total, sha256: hash.digest(), purpose: purpose ?? null, expiresSeconds }
        const row = await finishFile(db, file, end)
        if (!row) throw new FileLost(`file ${file.id} was abandoned`)
        state = 'finished'
        return row
      },
      async abort() {
        if (state !== 'open') return
        state = 'over'
        try {
          await sink.abort()
          await chunks.settled()
          await abandon(file.id, file.version)
          // Needed if the row belongs to another writer by now.
          await backends[file.storage].drop(file)
        } catch (error) {
          logger.warn({ err: error, file_id: file.id }, 'an aborted file is left to the sweeper')
        }
      },
    }
  }

  return {
    async create({ id, apiKeyId, purpose, filename, expiresSeconds = retention }) {
      if (id) await abandon(id, null)
      return writer(await insertFile(db, { id: id ?? newId(), apiKeyId, purpose, filename, storage, expiresSeconds }))
    },
    async read(id) {
      const file = await findFile(db, id)
      return file && { file, bytes: backends[file.storage].read(file) }
    },
    find: id => findFile(db, id),
    async list(query) {
      const rows = await listFiles(db, { ...query, limit: query.limit + 1 })
      return { rows: rows.slice(0, query.limit), more: rows.length > query.limit }
    },
    remove: id => hideFile(db, id),
    async sweep() {
      const outdated = await markOutdatedFilesDeleted(db, FILES, SILENT_SECONDS)
      const deleted = await listDeletedFiles(db, FILES)
      let slices = SLICES
      let failed = 0
      let s3Unavailable = false
      for (const file of deleted) {
        try {
          if (s3Unavailable && file.storage === 's3')
            throw new FilesUnavailable('S3 was unavailable for an earlier file')
          slices = await dispose(file, slices)
          if (slices === 0) return true
        } catch (error) {
          if (isUnavailable(error)) throw error
          // The next sweep continues with the others.
          await postponeFile(db, file)
          if (failed++ === 0) logger.warn({ err: error, file_id: file.id }, 'a file could not be deleted')
          s3Unavailable ||= error instanceof FilesUnavailable
        }
      }
      return failed < deleted.length && Math.max(outdated, deleted.length) >= FILES
    },
  }
}
