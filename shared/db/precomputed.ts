import { createHash } from 'node:crypto'
import { coalesce } from '#shared/concurrency/coalesce.ts'
import { canonicalJson } from '#shared/json/canonical.ts'
import { defineColumns } from './columns.ts'
import { jsonOrNull } from './json.ts'
import { type Db, splitOnError } from './pool.ts'

/** An answer stored by the operator. For the default of a kind, `input_hash` is empty and `input` is null. */
export type PrecomputedRow = {
  kind: string
  input_hash: Buffer
  input: unknown | null
  result: unknown
  updated_at: Date
}

/** `exact`: stored for this input; otherwise the default of the kind, which may not suit the input. */
export type Precomputed = { result: unknown; exact: boolean }

/** The hash of a kind's default. */
export const ANY_INPUT: Buffer = Buffer.alloc(0)

/** SHA-256 of the canonical input, in which the order of keys does not matter. */
const hashOf = (input: unknown): Buffer => createHash('sha256').update(canonicalJson(input)).digest()

const COLUMNS = 'kind, input_hash, input, result, updated_at'

/** Stores the answer to `input`, or without one the default of the kind. Replaces the previous answer. */
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

type Lookup = { kind: string; hash: Buffer }
const columns = defineColumns<Lookup>([
  ['kind', 'text', one => one.kind],
  ['hash', 'bytea', one => one.hash],
])

const findStatement = {
  name: 'precomputed_find',
  text: `SELECT p.result, length(p.input_hash) > 0 AS exact FROM ${columns.unnestOrdered('i', 1)}
    LEFT JOIN LATERAL (
      SELECT result, input_hash FROM precomputed WHERE kind = i.kind AND input_hash IN (i.hash, '')
      ORDER BY input_hash DESC LIMIT 1
    ) p ON true ORDER BY i.ord`,
}

/** Finds the answer to an input, or the default of the kind. Lookups made together share a query. */
export function createPrecomputedFinder(db: Db): (kind: string, input: unknown) => Promise<Precomputed | null> {
  const find = coalesce<Lookup, Precomputed | null>({
    max: 200,
    splitOnError,
    flush: async lookups => {
      const rows = await db.query<{ result: unknown; exact: boolean | null }>(findStatement, columns.values(lookups))
      return rows.map(({ result, exact }) => (exact === null ? null : { result, exact }))
    },
  })
  return (kind, input) => find({ kind, hash: hashOf(input) })
}

/**
 * The answers of a kind, the default first.
 * @param page `after`: only hashes after this one
 * @returns at most `limit` rows
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
 * Deletes the answer with this hash, or without one all answers of the kind.
 * @returns how many were deleted
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
