import { newId } from '#shared/ids.ts'
import type { Db } from '../pool.ts'

export type CollectionRow = {
  name: string
  language: string
  documents: number
  passages: number
  created_at: Date
  updated_at: Date
}

/** A collection, which belongs to one key. */
export type Owned = { apiKeyId: string; name: string }

const COLUMNS = `c.name, c.language, c.created_at, c.updated_at, d.documents, d.passages`
const COUNTED = `CROSS JOIN LATERAL (
  SELECT count(*)::int AS documents, coalesce(sum(passages), 0)::int AS passages FROM documents WHERE collection_id = c.id
) d`

/** Serialises the writers of a collection, so that counts are right and no passage outlives its document. */
export const lockCollection = {
  name: 'collections_lock',
  text: 'SELECT id, language FROM collections WHERE api_key_id = $1 AND name = $2 FOR UPDATE',
}

export type PutCollection = { kind: 'put'; collection: CollectionRow } | { kind: 'not_empty'; language: string }

const putStatement = {
  name: 'collections_put',
  text: `INSERT INTO collections AS c (id, api_key_id, name, language) VALUES ($3, $1, $2, $4)
    ON CONFLICT (api_key_id, name) DO UPDATE SET language = excluded.language, updated_at = now()
      WHERE c.language = excluded.language OR NOT EXISTS (SELECT FROM documents WHERE collection_id = c.id)`,
}

/** Creates a collection, or changes the language of an empty one. */
export async function putCollection(db: Db, { apiKeyId, name }: Owned, language: string): Promise<PutCollection> {
  const [, , rows] = await db.transaction<[[], [], CollectionRow[]]>([
    [lockCollection, [apiKeyId, name]],
    [putStatement, [apiKeyId, name, newId(), language]],
    [readStatement, [apiKeyId, name]],
  ])
  const collection = rows[0]!
  return collection.language === language
    ? { kind: 'put', collection }
    : { kind: 'not_empty', language: collection.language }
}

const readStatement = {
  name: 'collections_read',
  text: `SELECT ${COLUMNS} FROM collections c ${COUNTED} WHERE c.api_key_id = $1 AND c.name = $2`,
}

export const readCollection = async (db: Db, { apiKeyId, name }: Owned): Promise<CollectionRow | null> =>
  (await db.query<CollectionRow>(readStatement, [apiKeyId, name]))[0] ?? null

/** In order of names. @param page `after`: only names after this one */
export const listCollections = (
  db: Db,
  apiKeyId: string,
  { after, limit }: { after: string | null; limit: number },
): Promise<CollectionRow[]> =>
  db.query<CollectionRow>(
    {
      name: 'collections_list',
      text: `SELECT ${COLUMNS} FROM (
          SELECT * FROM collections WHERE api_key_id = $1 AND ($2::text IS NULL OR name > $2) ORDER BY name LIMIT $3
        ) c ${COUNTED} ORDER BY c.name`,
    },
    [apiKeyId, after, limit],
  )

const deleteStatement = {
  name: 'collections_delete',
  text: `WITH gone AS (DELETE FROM collections WHERE api_key_id = $1 AND name = $2 RETURNING id),
      d AS (DELETE FROM documents WHERE collection_id IN (SELECT id FROM gone)),
      p AS (DELETE FROM passages WHERE collection_id IN (SELECT id FROM gone))
    SELECT FROM gone`,
}

/** Deletes a collection and its documents. @returns the deleted collection; null: no such collection */
export async function deleteCollection(db: Db, { apiKeyId, name }: Owned): Promise<CollectionRow | null> {
  const values = [apiKeyId, name]
  const [, rows] = await db.transaction<[[], CollectionRow[], []]>([
    [lockCollection, values],
    [readStatement, values],
    [deleteStatement, values],
  ])
  return rows[0] ?? null
}
