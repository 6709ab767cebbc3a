import type { Db, Statement } from './pool.ts'

export type FileStatus = 'uploading' | 'processed' | 'deleting'

export type FileRow = {
  id: string
  api_key_id: string
  /** batch | batch_output */
  purpose: string
  filename: string
  status: FileStatus
  /** Where the bytes are. */
  storage: 'postgres' | 's3'
  bytes: number
  /** null while the file is being written. */
  sha256: Buffer | null
  created_at: Date
  expires_at: Date | null
}

/**
 * A file as created by one writer. `version` is its creation time in microseconds. If a writer seems dead, another one may write the
 * same id again; the old writer must then find nothing to change.
 */
export type FileVersion = { id: string; version: string }
export type StoredFile = FileRow & FileVersion

const VERSION = '(extract(epoch FROM created_at) * 1000000)::bigint'
const COLUMNS = `id, api_key_id, purpose, filename, status, storage, bytes::float8 AS bytes, sha256, created_at, expires_at,
  ${VERSION}::text AS version`
const SAME = `id = $1 AND ${VERSION} = $2::bigint`
/** Files that clients see. Expired files are hidden before the sweeper deletes them. */
const VISIBLE = `status = 'processed' AND (expires_at IS NULL OR expires_at > now())`

export type NewFile = {
  id: string
  apiKeyId: string
  purpose: string
  filename: string
  storage: FileRow['storage']
  /** null: never. */
  expiresSeconds: number | null
}

/** Creates a hidden file. @throws isDuplicate if the id exists */
export async function insertFile(db: Db, file: NewFile): Promise<StoredFile> {
  const rows = await db.query<StoredFile>(
    {
      name: 'files_insert',
      text: `INSERT INTO files (id, api_key_id, purpose, filename, status, storage, created_at, touched_at, expires_at)
        VALUES ($1, $2, $3, $4, 'uploading', $5, now(), now(), now() + make_interval(secs => $6::float8)) RETURNING ${COLUMNS}`,
    },
    [file.id, file.apiKeyId, file.purpose, file.filename, file.storage, file.expiresSeconds],
  )
  return rows[0]!
}

/** Appends a chunk. @returns false: the file was abandoned meanwhile, and nothing is written */
export async function appendFileChunk(db: Db, file: FileVersion, seq: number, data: Uint8Array): Promise<boolean> {
  const rows = await db.query(
    {
      name: 'files_append',
      text: `WITH file AS (UPDATE files SET touched_at = now() WHERE ${SAME} AND status = 'uploading' RETURNING id)
        INSERT INTO file_chunks (file_id, seq, data) SELECT id, $3::int, $4::bytea FROM file RETURNING seq`,
    },
    [file.id, file.version, seq, data],
  )
  return rows.length > 0
}

/** Shows that the writer is alive. @returns false: the file was abandoned meanwhile */
export async function touchFile(db: Db, file: FileVersion): Promise<boolean> {
  const rows = await db.query(
    {
      name: 'files_touch',
      text: `UPDATE files SET touched_at = now() WHERE ${SAME} AND status = 'uploading' RETURNING id`,
    },
    [file.id, file.version],
  )
  return rows.length > 0
}

export type FinishedFile = {
  bytes: number
  sha256: Buffer
  /** null: unchanged. */
  purpose: string | null
  /** Seconds after creation; null: never; undefined: unchanged. */
  expiresSeconds: number | null | undefined
}

/** Makes a complete file visible. @returns null: the file was abandoned meanwhile */
export async function finishFile(db: Db, file: FileVersion, end: FinishedFile): Promise<FileRow | null> {
  const rows = await db.query<StoredFile>(
    {
      name: 'files_finish',
      text: `UPDATE files SET status = 'processed', bytes = $3, sha256 = $4, purpose = coalesce($5, purpose), touched_at = now(),
          expires_at = CASE WHEN $6 THEN created_at + make_interval(secs => $7::float8) ELSE expires_at END
        WHERE ${SAME} AND status = 'uploading' RETURNING ${COLUMNS}`,
    },
    [
      file.id,
      file.version,
      end.bytes,
      end.sha256,
      end.purpose,
      end.expiresSeconds !== undefined,
      end.expiresSeconds ?? null,
    ],
  )
  return rows[0] ?? null
}

export async function findFile(db: Db, id: string): Promise<StoredFile | null> {
  const rows = await db.query<StoredFile>(
    { name: 'files_find', text: `SELECT ${COLUMNS} FROM files WHERE id = $1 AND ${VISIBLE}` },
    [id],
  )
  return rows[0] ?? null
}

export type FileQuery = {
  /** null: of all keys. */
  apiKeyId: string | null
  purpose?: string
  /** Only files after this id, in the order of the list. */
  after?: string
  limit: number
  order: 'asc' | 'desc'
}

/** In order of ids, which is by time. One statement per combination of filters, because plans ignore the values. */
export function listFiles(db: Db, { apiKeyId, purpose, after, limit, order }: FileQuery): Promise<FileRow[]> {
  const values: unknown[] = [limit]
  const where = [VISIBLE]
  const and = (condition: string, value: unknown) => {
    if (value !== null && value !== undefined) where.push(`${condition} $${values.push(value)}`)
  }
  and('api_key_id =', apiKeyId)
  and('purpose =', purpose)
  and(order === 'asc' ? 'id >' : 'id <', after)
  const shape = `${order}_${apiKeyId ? 'key' : 'all'}${purpose ? '_purpose' : ''}${after ? '_after' : ''}`
  const text = `SELECT ${COLUMNS} FROM files WHERE ${where.join(' AND ')} ORDER BY id ${order} LIMIT $1`
  return db.query<StoredFile>({ name: `files_list_${shape}`, text }, values)
}

/** @returns the bytes of a chunk; null: no such chunk */
export async function readFileChunk(db: Db, id: string, seq: number): Promise<Buffer | null> {
  const rows = await db.query<{ data: string }>(
    // The driver receives bytes as text. Base64 is a third shorter than hexadecimal.
    {
      name: 'files_read',
      text: `SELECT encode(data, 'base64') AS data FROM file_chunks WHERE file_id = $1 AND seq = $2`,
    },
    [id, seq],
  )
  return rows[0] ? Buffer.from(rows[0].data, 'base64') : null
}

/** Hides a file. Its bytes are deleted later. @returns whether the file was visible */
export async function hideFile(db: Db, id: string): Promise<boolean> {
  const rows = await db.query(
    {
      name: 'files_hide',
      text: `UPDATE files SET status = 'deleting', touched_at = now() WHERE id = $1 AND ${VISIBLE} RETURNING id`,
    },
    [id],
  )
  return rows.length > 0
}

const MARK_DELETED = `UPDATE files SET status = 'deleting', touched_at = now()`

/** Marks a file as deleted, whatever its status. @param version null: any version @returns null: no such file */
export async function markFileDeleted(db: Db, id: string, version: string | null): Promise<StoredFile | null> {
  const statement: Statement = version
    ? { name: 'files_mark_version_deleted', text: `${MARK_DELETED} WHERE ${SAME} RETURNING ${COLUMNS}` }
    : { name: 'files_mark_deleted', text: `${MARK_DELETED} WHERE id = $1 RETURNING ${COLUMNS}` }
  const rows = await db.query<StoredFile>(statement, version ? [id, version] : [id])
  return rows[0] ?? null
}

/**
 * Marks as deleted: expired files, and uploads without writes for `silentSeconds`.
 * @returns how many, at most `limit` of each
 */
export async function markOutdatedFilesDeleted(db: Db, limit: number, silentSeconds: number): Promise<number> {
  const mark = (name: string, where: string, values: unknown[]) =>
    db.query(
      {
        name,
        text: `WITH outdated AS MATERIALIZED (SELECT id FROM files WHERE ${where} LIMIT $1 FOR UPDATE SKIP LOCKED)
          UPDATE files f SET status = 'deleting', touched_at = now() FROM outdated o WHERE f.id = o.id RETURNING f.id`,
      },
      values,
    )
  const expired = await mark(
    'files_expire',
    `status = 'processed' AND expires_at IS NOT NULL AND expires_at <= now() ORDER BY expires_at`,
    [limit],
  )
  const silent = await mark(
    'files_silent',
    // The first condition matches the partial index.
    `status <> 'processed' AND touched_at < now() - make_interval(secs => $2) AND status = 'uploading' ORDER BY touched_at`,
    [limit, silentSeconds],
  )
  return expired.length + silent.length
}

/** Files marked as deleted, those that were tried longest ago first. */
export const listDeletedFiles = (db: Db, limit: number): Promise<StoredFile[]> =>
  db.query<StoredFile>(
    {
      name: 'files_list_deleted',
      text: `SELECT ${COLUMNS} FROM files WHERE status <> 'processed' AND status = 'deleting' ORDER BY touched_at LIMIT $1`,
    },
    [limit],
  )

/** Moves a deleted file behind the others, after its bytes could not be deleted. */
export const postponeFile = async (db: Db, file: FileVersion): Promise<void> => {
  await db.query(
    { name: 'files_postpone', text: `UPDATE files SET touched_at = now() WHERE ${SAME} AND status = 'deleting'` },
    [file.id, file.version],
  )
}

/**
 * Deletes chunks of a file that is marked as deleted, at most `limit`.
 * @returns how many
 */
export async function deleteFileChunks(db: Db, file: FileVersion, limit: number): Promise<number> {
  const rows = await db.query(
    {
      name: 'files_delete_chunks',
      // The lock protects the chunks of a new file under the same id.
      text: `WITH file AS MATERIALIZED (SELECT id FROM files WHERE ${SAME} AND status = 'deleting' FOR UPDATE),
          slice AS MATERIALIZED (SELECT c.file_id, c.seq FROM file, file_chunks c WHERE c.file_id = file.id ORDER BY c.seq LIMIT $3)
        DELETE FROM file_chunks c USING slice s WHERE c.file_id = s.file_id AND c.seq = s.seq RETURNING c.seq`,
    },
    [file.id, file.version, limit],
  )
  return rows.length
}

/** Deletes the row of a deleted file without chunks. @returns whether this call deleted it */
export async function deleteFile(db: Db, file: FileVersion): Promise<boolean> {
  const rows = await db.query(
    {
      name: 'files_delete',
      text: `DELETE FROM files WHERE ${SAME} AND status = 'deleting'
        AND NOT EXISTS (SELECT FROM file_chunks WHERE file_id = $1) RETURNING id`,
    },
    [file.id, file.version],
  )
  return rows.length > 0
}
