import { createHash } from 'node:crypto'
import { canonicalJson } from '#shared/canonical.ts'
import { coalesce } from '#shared/coalesce.ts'
import { jsonOrNull } from './json.ts'
import { type Db, itemsToBlame } from './pool.ts'

/** An answer that the operator wrote down. `input_hash` is empty and `input` null for a kind's default. */
export type PrecomputedRow = {
  kind: string
  input_hash: Buffer
  input: unknown | null
  result: unknown
  updated_at: Date
}

/** `exact`: written for this very input; else it is the kind's default, which may not suit it. */
export type Precomputed = { result: unknown; exact: boolean }

/** That of the kind's default. */
export const ANY_INPUT: Buffer = Buffer.alloc(0)

/** SHA-256 of the canonical input: the order of its keys says nothing. */
const hashOf = (input: unknown): Buffer => createHash('sha256').update(canonicalJson(input)).digest()

const COLUMNS = 'kind, input_hash, input, result, updated_at'

/** Writes down the answer to `input`, or without one to whatever input has none of its own, in the place of the one before. */
export async function putPrecomputed(
  db: Db,
  kind: string,
  { input, result }: { input?: unknown; result: unknown },
): Promise<PrecomputedRow> {
  const rows = await db.query<PrecomputedRow>(
    {
      name: 'precomputed_put',
      text: `INSERT INTO precomputed (kind, input_hash, input, result, updated_at) VALUES ($1, $2, $3, $4, now())
        ON CONFLICT (kind, input_hash) DO UPDATE SET input = excluded.input, result = excluded.result, updated_at = excluded.updated_at
        RETURNING ${COLUMNS}`,
    },
    [kind, input === undefined ? ANY_INPUT : hashOf(input), jsonOrNull(input), JSON.stringify(result)],
  )
  return rows[0]!
}

const find = {
  name: 'precomputed_find',
  text: `SELECT p.result, length(p.input_hash) > 0 AS exact FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS i(kind, hash, n)
    LEFT JOIN LATERAL (
      SELECT result, input_hash FROM precomputed WHERE kind = i.kind AND input_hash IN (i.hash, '')
      ORDER BY input_hash DESC LIMIT 1
    ) p ON true ORDER BY i.n`,
}

/** Finds the answer to an input: its own, else the kind's default. Those that are wanted together share a query. */
export function createPrecomputedFinder(db: Db): (kind: string, input: unknown) => Promise<Precomputed | null> {
  const ask = coalesce<{ kind: string; hash: Buffer }, Precomputed | null>({
    max: 200,
    itemsToBlame,
    flush: async asked => {
      const rows = await db.query<{ result: unknown; exact: boolean | null }>(find, [
        asked.map(one => one.kind),
        asked.map(one => one.hash),
      ])
      return rows.map(({ result, exact }) => (exact === null ? null : { result, exact }))
    },
  })
  return (kind, input) => ask({ kind, hash: hashOf(input) })
}

/** For one input alone. */
export const findPrecomputed = (db: Db, kind: string, input: unknown): Promise<Precomputed | null> =>
  createPrecomputedFinder(db)(kind, input)

/**
 * A kind's answers, its default first.
 * @param page `after`: only those behind this hash
 * @returns at most `limit`
 */
export const listPrecomputed = (
  db: Db,
  kind: string,
  { after, limit }: { after: Buffer | null; limit: number },
): Promise<PrecomputedRow[]> =>
  db.query<PrecomputedRow>(
    {
      name: 'precomputed_list',
      text: `SELECT ${COLUMNS} FROM precomputed WHERE kind = $1 AND ($2::bytea IS NULL OR input_hash > $2) ORDER BY input_hash LIMIT $3`,
    },
    [kind, after, limit],
  )

/**
 * Deletes the answer with this hash, or without one all of the kind.
 * @returns how many there were
 */
export async function deletePrecomputed(db: Db, kind: string, inputHash: Buffer | null): Promise<number> {
  const rows = await db.query(
    {
      name: 'precomputed_delete',
      text: 'DELETE FROM precomputed WHERE kind = $1 AND ($2::bytea IS NULL OR input_hash = $2) RETURNING kind',
    },
    [kind, inputHash],
  )
  return rows.length
}
