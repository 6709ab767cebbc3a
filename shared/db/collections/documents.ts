import { defineColumns } from '../columns.ts'
import { jsonOrNull } from '../json.ts'
import type { Db } from '../pool.ts'
import { lockCollection, type Owned } from './collections.ts'

/** `text` null: not requested. */
export type DocumentRow = {
  id: string
  text: string | null
  characters: number
  metadata: Record<string, unknown> | null
  passages: number
  created_at: Date
  updated_at: Date
}
/** `passages`: the text, split for search. */
export type NewDocument = { id: string; text: string; metadata: Record<string, unknown> | null; passages: string[] }

export type PutDocuments =
  /** In the given order, without texts. */
  | { kind: 'put'; documents: DocumentRow[] }
  | { kind: 'no_collection' }
  /** Nothing was written. `passages`: the number that the collection would have had. */
  | { kind: 'full'; passages: number }

const DOCUMENT = 'id, metadata, passages, length(text) AS characters, created_at, updated_at'

type Passage = { documentId: string; n: number; text: string }
const documentColumns = defineColumns<NewDocument>([
  ['id', 'text', one => one.id],
  ['text', 'text', one => one.text],
  ['metadata', 'json', one => jsonOrNull(one.metadata)],
  ['passages', 'int', one => one.passages.length],
])
const passageColumns = defineColumns<Passage>([
  ['document_id', 'text', one => one.documentId],
  ['n', 'int', one => one.n],
  ['text', 'text', one => one.text],
])
/** $1 is the key, $2 the name of the collection, $3 the limit of its passages. */
const FIRST = 4

const putDocumentsStatement = {
  name: 'documents_put',
  text: `WITH c AS MATERIALIZED (
      SELECT id, language FROM collections WHERE api_key_id = $1 AND name = $2
    ), i AS MATERIALIZED (
      SELECT * FROM ${documentColumns.unnest('i', FIRST)}
    ), room AS MATERIALIZED (
      SELECT c.id, coalesce((
          SELECT sum(d.passages) FROM documents d WHERE d.collection_id = c.id AND d.id <> ALL(ARRAY(SELECT id FROM i))
        ), 0)::int + (SELECT coalesce(sum(passages), 0) FROM i)::int AS passages
      FROM c
    ), fits AS MATERIALIZED (
      SELECT c.id, c.language FROM c JOIN room ON room.passages <= $3
    ), put AS (
      INSERT INTO documents AS d (collection_id, id, text, metadata, passages)
      SELECT f.id, i.id, i.text, i.metadata, i.passages
      FROM fits f CROSS JOIN i
      ON CONFLICT (collection_id, id) DO UPDATE
        SET text = excluded.text, metadata = excluded.metadata, passages = excluded.passages, updated_at = now()
      RETURNING d.id, d.metadata, d.passages, length(d.text) AS characters, d.created_at, d.updated_at
    ), shorter AS (
      DELETE FROM passages p USING fits f, i
      WHERE p.collection_id = f.id AND p.document_id = i.id AND p.n > i.passages
    ), found AS (
      INSERT INTO passages (collection_id, document_id, n, text, words)
      SELECT f.id, i.document_id, i.n, i.text, to_tsvector(('pg_catalog.' || f.language)::regconfig, i.text)
      FROM fits f CROSS JOIN ${passageColumns.unnest('i', FIRST + documentColumns.count)}
      ON CONFLICT (collection_id, document_id, n) DO UPDATE SET text = excluded.text, words = excluded.words
    ), touched AS (
      UPDATE collections x SET updated_at = now() FROM fits f WHERE x.id = f.id
    )
    SELECT room.passages AS wanted, put.* FROM room LEFT JOIN put ON true`,
}

/**
 * Writes all documents or none. A document replaces the one with the same id.
 * @param documents with different ids
 * @param maxPassages limit of passages in the collection
 */
export async function putDocuments(
  db: Db,
  { apiKeyId, name }: Owned,
  documents: readonly NewDocument[],
  maxPassages: number,
): Promise<PutDocuments> {
  const passages = documents.flatMap(({ id, passages }) =>
    passages.map((text, index) => ({ documentId: id, n: index + 1, text })),
  )
  const [, rows] = await db.transaction<[[], (DocumentRow & { id: string | null; wanted: number })[]]>([
    [lockCollection, [apiKeyId, name]],
    [
      putDocumentsStatement,
      [apiKeyId, name, maxPassages, ...documentColumns.values(documents), ...passageColumns.values(passages)],
    ],
  ])
  const [first] = rows
  if (!first) return { kind: 'no_collection' }
  if (first.id === null) return { kind: 'full', passages: first.wanted }
  const byId = new Map(rows.map(({ wanted, ...row }) => [row.id, { ...row, text: null }]))
  return { kind: 'put', documents: documents.map(one => byId.get(one.id)!) }
}

/** A document with its text. @returns null: no such document */
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

/** Documents without texts, in order of ids. @param page `after`: only ids after this one @returns null: no such collection */
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

/** @returns the deleted document, without its text; null: no such document */
export async function deleteDocument(db: Db, { apiKeyId, name }: Owned, id: string): Promise<DocumentRow | null> {
  const [, rows] = await db.transaction<[[], DocumentRow[]]>([
    [lockCollection, [apiKeyId, name]],
    [deleteDocumentStatement, [apiKeyId, name, id]],
  ])
  return rows[0] ?? null
}
