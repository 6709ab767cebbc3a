import { createHash } from 'node:crypto'
import { v7 } from 'uuid'
import type { Database } from '../client-app/database.ts'
import type { Origin } from './answers.ts'

/** This application's own table, in a schema of its own. */
export const SCHEMA = `
  SELECT pg_advisory_xact_lock(hashtext('blog_app'));
  CREATE SCHEMA IF NOT EXISTS blog_app;
  CREATE TABLE IF NOT EXISTS blog_app.suggestions (
    id uuid PRIMARY KEY,
    author text NOT NULL,
    title text NOT NULL,
    -- Of the words of the title: no author is suggested the same twice.
    title_hash text NOT NULL,
    angle text NOT NULL,
    source text NOT NULL,
    quality text NOT NULL,
    task_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (author, title_hash)
  );
  CREATE INDEX IF NOT EXISTS suggestions_by_author ON blog_app.suggestions (author, id);`

export type Topic = { title: string; angle: string }
export type Suggestion = Topic & Origin & { id: string; createdAt: Date }

export type Store = ReturnType<typeof createStore>

const SUGGESTION = 'id, title, angle, source, quality, created_at AS "createdAt"'
/** Above every id. */
const FIRST = 'ffffffff-ffff-ffff-ffff-ffffffffffff'

/** By which two titles are one: they differ in case, punctuation or white space only. */
export const wordsOf = (title: string): string =>
  (
    title
      .normalize('NFKC')
      .toLowerCase()
      .replace(/['’]/g, '')
      .match(/[\p{L}\p{M}\p{N}]+/gu) ?? []
  ).join(' ')

const hashOf = (title: string) => createHash('sha256').update(wordsOf(title)).digest('hex')

export function createStore({ query }: Database) {
  return {
    /** @returns those that the author had not been suggested before, as stored */
    add: (author: string, topics: Topic[], { source, quality, taskId }: Origin & { taskId: string }) =>
      query<Suggestion>(
        `INSERT INTO blog_app.suggestions (id, author, title, title_hash, angle, source, quality, task_id)
           SELECT one.id, $1, one.title, one.title_hash, one.angle, $6, $7, $8
             FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[]) AS one (id, title, title_hash, angle)
           ON CONFLICT (author, title_hash) DO NOTHING
           RETURNING ${SUGGESTION}`,
        [
          author,
          topics.map(() => v7()),
          topics.map(one => one.title),
          topics.map(one => hashOf(one.title)),
          topics.map(one => one.angle),
          source,
          quality,
          taskId,
        ],
      ),

    /** Newest first. `after`: only those older than this one. */
    of: (author: string, { after, limit }: { after: string | null; limit: number }) =>
      query<Suggestion>(
        `SELECT ${SUGGESTION} FROM blog_app.suggestions WHERE author = $1 AND id < $2 ORDER BY id DESC LIMIT $3`,
        [author, after ?? FIRST, limit],
      ),
  }
}
