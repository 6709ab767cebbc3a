import { createHash } from 'node:crypto'
import pg from 'pg'
import { v7 } from 'uuid'
import { type Origin, unavailable } from './answers.ts'

const SCHEMA = `
  SELECT pg_advisory_xact_lock(hashtext('blog_app'));
  CREATE SCHEMA IF NOT EXISTS blog_app;
  CREATE TABLE IF NOT EXISTS blog_app.suggestions (
    id uuid PRIMARY KEY, author text NOT NULL, title text NOT NULL, title_hash text NOT NULL, angle text NOT NULL,
    source text NOT NULL, quality text NOT NULL, task_id text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (author, title_hash));
  CREATE INDEX IF NOT EXISTS suggestions_by_author ON blog_app.suggestions (author, id);`

export type Topic = { title: string; angle: string }
export type Suggestion = Topic & Omit<Origin, 'task_id'> & { id: string; created_at: Date }
export type Store = Awaited<ReturnType<typeof openStore>>

/** Titles that differ only in case, punctuation and white space are equal. */
export function normalized(title: string): string {
  const text = title.normalize('NFKC').toLowerCase().replace(/['’]/g, '')
  return text.replace(/[^\p{L}\p{M}\p{N}]+/gu, ' ').trim()
}
const hashOf = (title: string) => createHash('sha256').update(normalized(title)).digest('hex')

/** Opens the database and creates the table. */
export async function openStore(url: string) {
  const pool = new pg.Pool({ connectionString: url, connectionTimeoutMillis: 3000, query_timeout: 10_000 })
  // Without a listener, an idle connection that breaks would end the process.
  pool.on('error', () => {})
  async function query<R extends object>(text: string, values: unknown[] = []): Promise<R[]> {
    const { rows } = await pool.query<R>(text, values).catch(cause => {
      throw Object.assign(unavailable('unavailable', 'The database is unavailable.'), { cause })
    })
    return rows
  }
  await query(SCHEMA)
  const SUGGESTION = 'id, title, angle, source, quality, created_at'
  return {
    close: () => pool.end(),
    ping: () => query('SELECT 1'),
    /** @returns the topics that were not suggested to the author before, as stored */
    add(author: string, topics: Topic[], { source, quality, task_id }: Origin) {
      const common = { author, source, quality, task_id }
      const rows = topics.map(one => ({ ...one, ...common, id: v7(), title_hash: hashOf(one.title) }))
      return query<Suggestion>(
        `INSERT INTO blog_app.suggestions (id, author, title, title_hash, angle, source, quality, task_id)
           SELECT id, author, title, title_hash, angle, source, quality, task_id
             FROM json_populate_recordset(NULL::blog_app.suggestions, $1)
           ON CONFLICT (author, title_hash) DO NOTHING RETURNING ${SUGGESTION}`,
        [JSON.stringify(rows)],
      )
    },
    /** The suggestions older than the suggestion `after`, newest first. */
    list: (author: string, after: string, limit: number) =>
      query<Suggestion>(
        `SELECT ${SUGGESTION} FROM blog_app.suggestions WHERE author = $1 AND id < $2 ORDER BY id DESC LIMIT $3`,
        [author, after, limit],
      ),
  }
}
