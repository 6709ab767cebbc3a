import { createHash } from 'node:crypto'
import type { Config } from '#shared/config.ts'
import {
  condemnFile,
  condemnOutdated,
  type FileQuery,
  type FileRow,
  findFile,
  finishFile,
  forgetFile,
  hideFile,
  insertFile,
  listCondemned,
  listFiles,
  postponeFile,
  type StoredFile,
  touchFile,
} from '#shared/db/files.ts'
import { type Db, isUnavailable } from '#shared/db/pool.ts'
import { newId } from '#shared/ids.ts'
import type { Logger } from '#shared/logger.ts'
import type { Metrics } from '#shared/metrics.ts'
import { type Backend, FileLost, FilesUnavailable } from './backend.ts'
import { createPieces } from './pieces.ts'
import { createPostgresBackend } from './postgres.ts'
import { createS3Backend } from './s3.ts'

export type { FileRow } from '#shared/db/files.ts'

const DAY_SECONDS = 86_400
/** A piece that does not fill up is written all the same after so long: an upload that goes on slowly is not given up. */
const PIECE_MS = 30_000
/** An upload without a sign for so long has lost its process. */
const SILENT_SECONDS = 600
/** Files that one sweep looks at. */
const FILES = 100
/** Slices that one sweep removes. */
const SLICES = 20

export type NewFileMeta = {
  id?: string
  apiKeyId: string
  purpose: string
  filename: string
  /** null: never; undefined: as the settings say. */
  expiresSeconds?: number | null
}

export type FileWriter = {
  readonly id: string
  /** Adds bytes; awaits back-pressure: at most two pieces are held. @throws FileLost, FilesUnavailable */
  write(bytes: Uint8Array): Promise<void>
  /** Makes it visible, with size and hash. `purpose` may be given only now: multipart sends the file first. */
  finish(more?: { purpose?: string; expiresSeconds?: number | null }): Promise<FileRow>
  /** Leaves nothing behind; never rejects. Does nothing after `finish` has resolved. */
  abort(): Promise<void>
}

export type FileStore = {
  /** `id` given: what a dead process had written under that id is dropped first, so that writing an output can be repeated. */
  create(meta: NewFileMeta): Promise<FileWriter>
  /** Its bytes in pieces, never whole in memory; null: no such (processed) file. */
  read(id: string): Promise<{ file: FileRow; bytes: AsyncIterable<Uint8Array> } | null>
  find(id: string): Promise<FileRow | null>
  /** By id, which is by time. */
  list(query: FileQuery): Promise<{ rows: FileRow[]; more: boolean }>
  /** Hidden at once, its bytes go in slices. false: there was none. */
  remove(id: string): Promise<boolean>
  /** For the sweeper: expired files, deleted ones, uploads whose process died. Bounded; true: there is more to do. */
  sweep(): Promise<boolean>
}

export type FileStoreDeps = {
  db: Db
  config: Pick<Config, 'FILES_URL' | 'FILES_S3_ENDPOINT' | 'FILE_RETENTION_DAYS'>
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
      touch: file => touchFile(db, file),
    }),
  }
  const retention = config.FILE_RETENTION_DAYS === 0 ? null : config.FILE_RETENTION_DAYS * DAY_SECONDS

  /** Removes what is left of a condemned file, at most so many slices. @returns slices left to spend; 0: there may be more */
  async function dispose(file: StoredFile, slices: number): Promise<number> {
    while (slices > 0 && (await backends[file.storage].drop(file))) slices--
    if (slices > 0 && (await forgetFile(db, file))) metrics?.swept.inc({ what: 'files' })
    return slices
  }

  async function giveUp(id: string, version: string | null): Promise<void> {
    const file = await condemnFile(db, id, version)
    if (file) await dispose(file, Number.POSITIVE_INFINITY)
  }

  function writer(file: StoredFile): FileWriter {
    const sink = backends[file.storage].open(file)
    const hash = createHash('sha256')
    const pieces = createPieces({ write: sink.write, maxAgeMs: PIECE_MS, now: () => performance.now() })
    let state: 'open' | 'finished' | 'over' = 'open'
    return {
      id: file.id,
      async write(bytes) {
        if (state !== 'open') throw new FileLost(`file ${file.id} is closed`)
        hash.update(bytes)
        await pieces.add(bytes)
      },
      async finish({ purpose, expiresSeconds } = {}) {
        if (state !== 'open') throw new FileLost(`file ${file.id} is closed`)
        await pieces.flush()
        await sink.end()
        const end = { bytes: pieces.total, sha256: hash.digest(), purpose: purpose ?? null, expiresSeconds }
        const row = await finishFile(db, file, end)
        if (!row) throw new FileLost(`file ${file.id} was given up`)
        state = 'finished'
        return row
      },
      async abort() {
        if (state !== 'open') return
        state = 'over'
        try {
          await sink.abort()
          await pieces.settled()
          await giveUp(file.id, file.version)
          // Also if the row is another writer's by now.
          await backends[file.storage].drop(file)
        } catch (error) {
          logger.warn({ err: error, file_id: file.id }, 'an aborted file is left to the sweeper')
        }
      },
    }
  }

  return {
    async create({ id, apiKeyId, purpose, filename, expiresSeconds = retention }) {
      if (id) await giveUp(id, null)
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
      const outdated = await condemnOutdated(db, FILES, SILENT_SECONDS)
      const condemned = await listCondemned(db, FILES)
      let slices = SLICES
      let failed = 0
      let s3IsAway = false
      for (const file of condemned) {
        try {
          if (s3IsAway && file.storage === 's3') throw new FilesUnavailable('S3 was away just now')
          slices = await dispose(file, slices)
          if (slices === 0) return true
        } catch (error) {
          if (isUnavailable(error)) throw error
          // What cannot be removed now is not in the way of the others.
          await postponeFile(db, file)
          if (failed++ === 0) logger.warn({ err: error, file_id: file.id }, 'a file could not be removed')
          s3IsAway ||= error instanceof FilesUnavailable
        }
      }
      return failed < condemned.length && Math.max(outdated, condemned.length) >= FILES
    },
  }
}
