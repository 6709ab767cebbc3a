import type { Db } from '../pool.ts'
import type { Owned } from './collections.ts'

/** `rank`: higher is better; comparable within one search. */
export type Found = { document: string; n: number; text: string; rank: number }

/** Number of words of a question that are searched, from its start. */
const MAX_WORDS = 64

/**
 * Any word of the question finds a passage. The rank grows with the number of words found, and more if all of them stand close
 * together. `websearch_to_tsquery` would read dashes and quotation marks in a question as operators. `ts_rank_cd` of any word counts
 * repetitions, so that one word ten times would beat all words together.
 */
export const searchStatement = {
  name: 'passages_search',
  text: `WITH c AS MATERIALIZED (
      SELECT id, ('pg_catalog.' || language)::regconfig AS config FROM collections WHERE api_key_id = $1 AND name = $2
    ), w AS MATERIALIZED (
      SELECT '''' || replace(replace(v.lexeme, '\\', '\\\\'), '''', '''''') || '''' AS word
      FROM c CROSS JOIN LATERAL unnest(to_tsvector(c.config, $3)) AS v ORDER BY v.positions[1] LIMIT ${MAX_WORDS}
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
 * The passages of a collection that match a question best, best first.
 * @returns at most `limit` passages; null: no such collection
 */
export async function searchPassages(
  db: Db,
  { apiKeyId, name }: Owned,
  { question, limit }: { question: string; limit: number },
): Promise<Found[] | null> {
  const [rows] = await db.transaction<[(Found & { document: string | null })[]]>(
    [[searchStatement, [apiKeyId, name, question, limit]]],
    // GIN indexes support bitmap scans only.
    ['enable_bitmapscan = on'],
  )
  return rows.length === 0 ? null : rows.filter(row => row.document !== null)
}
