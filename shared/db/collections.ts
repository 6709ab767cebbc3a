import { MOST_PASSAGES } from '#shared/collections/collection.ts'
import { cutPassages } from '#shared/collections/passages.ts'
import { newId } from '#shared/ids.ts'
import { jsonOrNull } from './json.ts'
import type { Db } from './pool.ts'

export type CollectionRow = {
  name: string
  language: string
  documents: number
  passages: number
  created_at: Date
  updated_at: Date
}

/** Whose collection: no key ever sees another's. */
export type Owned = { apiKeyId: string; name: string }

const COLUMNS = `c.name, c.language, c.created_at, c.updated_at, d.documents, d.passages`
const COUNTED = `CROSS JOIN LATERAL (
  SELECT count(*)::int AS documents, coalesce(sum(passages), 0)::int AS passages FROM documents WHERE collection_id = c.id
) d`

/** Whoever writes to a collection waits here for its turn, so that counts are right and no passage outlives its document. */
const lock = {
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

/** Begins a collection, or changes the language of one without documents. */
export async function putCollection(db: Db, { apiKeyId, name }: Owned, language: string): Promise<PutCollection> {
  const [, , rows] = await db.transaction<[[], [], CollectionRow[]]>([
    [lock, [apiKeyId, name]],
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

/** By name. @param page `after`: only those behind this name */
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

/** With its documents. @returns what it was; null: there was none */
export async function deleteCollection(db: Db, { apiKeyId, name }: Owned): Promise<CollectionRow | null> {
  const of = [apiKeyId, name]
  const [, rows] = await db.transaction<[[], CollectionRow[], []]>([
    [lock, of],
    [readStatement, of],
    [deleteStatement, of],
  ])
  return rows[0] ?? null
}

/** `text` null: it was not asked for. */
export type DocumentRow = {
  id: string
  text: string | null
  characters: number
  metadata: Record<string, unknown> | null
  passages: number
  created_at: Date
  updated_at: Date
}
export type NewDocument = { id: string; text: string; metadata: Record<string, unknown> | null }

export type PutDocuments =
  /** In the order in which they were given, without their texts. */
  | { kind: 'put'; documents: DocumentRow[] }
  | { kind: 'no_collection' }
  /** Nothing was written. `passages`: how many there would have been. */
  | { kind: 'full'; passages: number }

const DOCUMENT = 'id, metadata, passages, length(text) AS characters, created_at, updated_at'

const putDocumentsStatement = {
  name: 'documents_put',
  text: `WITH c AS MATERIALIZED (
      SELECT id, language FROM collections WHERE api_key_id = $1 AND name = $2
    ), room AS MATERIALIZED (
      SELECT c.id, coalesce((
          SELECT sum(d.passages) FROM documents d WHERE d.collection_id = c.id AND d.id <> ALL($3)
        ), 0)::int + coalesce(cardinality($7::text[]), 0) AS passages
      FROM c
    ), fits AS MATERIALIZED (
      SELECT c.id, c.language FROM c JOIN room ON room.passages <= ${MOST_PASSAGES}
    ), put AS (
      INSERT INTO documents AS d (collection_id, id, text, metadata, passages)
      SELECT f.id, i.id, i.text, i.metadata, i.passages
      FROM fits f CROSS JOIN unnest($3::text[], $4::text[], $5::json[], $6::int[]) AS i(id, text, metadata, passages)
      ON CONFLICT (collection_id, id) DO UPDATE
        SET text = excluded.text, metadata = excluded.metadata, passages = excluded.passages, updated_at = now()
      RETURNING d.id, d.metadata, d.passages, length(d.text) AS characters, d.created_at, d.updated_at
    ), shorter AS (
      DELETE FROM passages p USING fits f, unnest($3::text[], $6::int[]) AS i(id, passages)
      WHERE p.collection_id = f.id AND p.document_id = i.id AND p.n > i.passages
    ), found AS (
      INSERT INTO passages (collection_id, document_id, n, text, words)
      SELECT f.id, i.document_id, i.n, i.text, to_tsvector(('pg_catalog.' || f.language)::regconfig, i.text)
      FROM fits f CROSS JOIN unnest($7::text[], $8::int[], $9::text[]) AS i(document_id, n, text)
      ON CONFLICT (collection_id, document_id, n) DO UPDATE SET text = excluded.text, words = excluded.words
    ), touched AS (
      UPDATE collections x SET updated_at = now() FROM fits f WHERE x.id = f.id
    )
    SELECT room.passages AS wanted, put.* FROM room LEFT JOIN put ON true`,
}

/** Writes documents, each in the place of the one with its id, all or none. Their ids must differ. */
export async function putDocuments(
  db: Db,
  { apiKeyId, name }: Owned,
  documents: readonly NewDocument[],
): Promise<PutDocuments> {
  const cut = documents.map(one => cutPassages(one.text))
  const passages = cut.flatMap((texts, d) => texts.map((text, n) => ({ id: documents[d]!.id, n: n + 1, text })))
  const [, rows] = await db.transaction<[[], (DocumentRow & { id: string | null; wanted: number })[]]>([
    [lock, [apiKeyId, name]],
    [
      putDocumentsStatement,
      [
        ...[apiKeyId, name, documents.map(one => one.id), documents.map(one => one.text)],
        ...[documents.map(one => jsonOrNull(one.metadata)), cut.map(texts => texts.length)],
        ...[passages.map(one => one.id), passages.map(one => one.n), passages.map(one => one.text)],
      ],
    ],
  ])
  const [first] = rows
  if (!first) return { kind: 'no_collection' }
  if (first.id === null) return { kind: 'full', passages: first.wanted }
  const byId = new Map(rows.map(({ wanted, ...row }) => [row.id, { ...row, text: null }]))
  return { kind: 'put', documents: documents.map(one => byId.get(one.id)!) }
}

/** With its text. */
export const readDocument = async (db: Db, { apiKeyId, name }: Owned, id: string): Promise<DocumentRow | null> =>
  (
    await db.query<DocumentRow>(
      {
        name: 'documents_read',
        text: `SELECT ${DOCUMENT}, text FROM documents
          WHERE collection_id = (SELECT id FROM collections WHERE api_key_id = $1 AND name = $2) AND id = $3`,
      },
      [apiKeyId, name, id],
    )
  )[0] ?? null

/** Without their texts, by id. @param page `after`: only those behind this id. @returns null: there is no such collection */
export async function listDocuments(
  db: Db,
  { apiKeyId, name }: Owned,
  { after, limit }: { after: string | null; limit: number },
): Promise<DocumentRow[] | null> {
  const rows = await db.query<DocumentRow & { id: string | null }>(
    {
      name: 'documents_list',
      text: `SELECT d.*, NULL AS text FROM collections c LEFT JOIN LATERAL (
          SELECT ${DOCUMENT} FROM documents WHERE collection_id = c.id AND ($3::text IS NULL OR id > $3) ORDER BY id LIMIT $4
        ) d ON true WHERE c.api_key_id = $1 AND c.name = $2 ORDER BY d.id`,
    },
    [apiKeyId, name, after, limit],
  )
  return rows.length === 0 ? null : rows.filter(row => row.id !== null)
}

const deleteDocumentStatement = {
  name: 'documents_delete',
  text: `WITH c AS (UPDATE collections SET updated_at = now() WHERE api_key_id = $1 AND name = $2 RETURNING id),
      gone AS (DELETE FROM documents WHERE collection_id IN (SELECT id FROM c) AND id = $3 RETURNING ${DOCUMENT}),
      p AS (DELETE FROM passages WHERE collection_id IN (SELECT id FROM c) AND document_id = $3)
    SELECT *, NULL AS text FROM gone`,
}

/** @returns what it was, without its text; null: there was none */
export async function deleteDocument(db: Db, { apiKeyId, name }: Owned, id: string): Promise<DocumentRow | null> {
  const [, rows] = await db.transaction<[[], DocumentRow[]]>([
    [lock, [apiKeyId, name]],
    [deleteDocumentStatement, [apiKeyId, name, id]],
  ])
  return rows[0] ?? null
}

/** `rank`: more is better; a figure to compare those of one search by. */
export type Found = { document: string; n: number; text: string; rank: number }

/** Words of a question that are searched for, the first. */
const MOST_WORDS = 64

/**
 * Any of the question's words finds a passage; it ranks by how many it has of them, and higher where all stand together. Not
 * `websearch_to_tsquery`: a question may hold a dash or quotation marks and mean no operator by them. And not `ts_rank_cd` of
 * any word, which counts a word as often as it stands there: ten times the same one would beat all of them.
 */
export const searchStatement = {
  name: 'passages_search',
  text: `WITH c AS MATERIALIZED (
      SELECT id, ('pg_catalog.' || language)::regconfig AS config FROM collections WHERE api_key_id = $1 AND name = $2
    ), w AS MATERIALIZED (
      SELECT '''' || replace(replace(v.lexeme, '\\', '\\\\'), '''', '''''') || '''' AS word
      FROM c CROSS JOIN LATERAL unnest(to_tsvector(c.config, $3)) AS v ORDER BY v.positions[1] LIMIT ${MOST_WORDS}
    ), q AS MATERIALIZED (
      SELECT string_agg(word, ' | ')::tsquery AS some, string_agg(word, ' & ')::tsquery AS every FROM w
    )
    SELECT f.* FROM c CROSS JOIN q LEFT JOIN LATERAL (
      SELECT p.document_id AS document, p.n, p.text, ts_rank(p.words, q.some) + ts_rank_cd(p.words, q.every) AS rank
      FROM passages p WHERE ARRAY[p.collection_id] @> ARRAY[c.id] AND p.words @@ q.some
      ORDER BY rank DESC, p.document_id, p.n LIMIT $4
    ) f ON true`,
}

/**
 * The passages of a collection that have most to do with a question, best first.
 * @returns at most `limit`; null: there is no such collection
 */
export async function searchPassages(
  db: Db,
  { apiKeyId, name }: Owned,
  { question, limit }: { question: string; limit: number },
): Promise<Found[] | null> {
  const [rows] = await db.transaction<[(Found & { document: string | null })[]]>(
    [[searchStatement, [apiKeyId, name, question, limit]]],
    // A GIN index is read in no other way.
    ['enable_bitmapscan = on'],
  )
  return rows.length === 0 ? null : rows.filter(row => row.document !== null)
}
