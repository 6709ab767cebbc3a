import { sql } from 'drizzle-orm'
import { bigint, index, integer, pgTable, primaryKey, text, uuid } from 'drizzle-orm/pg-core'
import { bytea, timestamptz } from './columns.ts'

/** Files uploaded by clients or written by batches. */
export const files = pgTable(
  'files',
  {
    id: uuid('id').primaryKey(),
    apiKeyId: uuid('api_key_id').notNull(),
    /** batch | batch_output */
    purpose: text('purpose').notNull(),
    filename: text('filename').notNull(),
    /** uploading | processed | deleting. Clients see processed files only. */
    status: text('status').notNull(),
    /** postgres | s3: where the bytes are */
    storage: text('storage').notNull(),
    bytes: bigint('bytes', { mode: 'number' }).notNull().default(0),
    sha256: bytea('sha256'),
    createdAt: timestamptz('created_at').notNull().defaultNow(),
    /** Time of the last write. An upload without recent writes has lost its process. */
    touchedAt: timestamptz('touched_at').notNull().defaultNow(),
    /** null: kept until deleted. */
    expiresAt: timestamptz('expires_at'),
  },
  table => [
    index('files_by_key').on(table.apiKeyId, table.id),
    index('files_unfinished').on(table.touchedAt).where(sql`status <> 'processed'`),
    index('files_expiry').on(table.expiresAt).where(sql`status = 'processed' AND expires_at IS NOT NULL`),
  ],
)

/** The bytes of files stored in Postgres, in chunks. */
export const fileChunks = pgTable(
  'file_chunks',
  { fileId: uuid('file_id').notNull(), seq: integer('seq').notNull(), data: bytea('data').notNull() },
  table => [primaryKey({ columns: [table.fileId, table.seq] })],
)
