import { canonicalTarget, type Target } from '#shared/gate/target.ts'
import type { SeedData } from '#shared/gate/types.ts'
import type { Db } from './pool.ts'

/**
 * Rows of targets that were not used for this time are deleted. An unused gate leaves Redis after a day (state.lua), so that it has
 * nothing left to lose. Usage is recorded every hour (gate/targets.ts).
 */
const UNUSED_DAYS = 3
const PRUNE_ROWS = 10_000

/**
 * Bounds the table, because clients can invent model names where one price covers all models (`ollama/*`). A target without a row is
 * treated as called before: its gate opens a second later, with the state from the ledger.
 */
export const MAX_GATES = 1000
/** For the target $1, $2. Concurrent statements may exceed the bound slightly. */
const PUT = `INSERT INTO gates (provider, model, opened_at) SELECT $1::text, $2::text, now()
      WHERE EXISTS (SELECT FROM gates WHERE provider = $1 AND model = $2)
        OR (SELECT count(*) FROM (SELECT FROM gates LIMIT ${MAX_GATES}) g) < ${MAX_GATES}
      ON CONFLICT (provider, model) DO UPDATE SET opened_at = excluded.opened_at`

/** Slightly longer than the window of the gate (gate.ts). */
const RECENT_SECONDS = 65

/** Names in the ledger of a provider's models that were called recently or are being called. */
const namesStatement = {
  name: 'gates_names',
  text: `SELECT model FROM attempts WHERE started_at > now() - interval '${RECENT_SECONDS} seconds' AND provider = $1
    UNION SELECT model FROM attempts WHERE outcome = 'started' AND provider = $1`,
}

/**
 * Ages are by Postgres's clock at the start of the statement, so that a call counts slightly too long rather than too short. A call
 * counts with its real usage, or with its booking until that is known.
 */
const seedStatement = {
  name: 'gates_seed',
  text: `WITH opened AS (
      ${PUT} RETURNING xmax = 0 AS first
    ), recent AS (
      SELECT json_agg(json_build_object('ageMs', (extract(epoch FROM now() - a.started_at) * 1000)::float8,
        'inputTokens', coalesce(a.input_tokens, a.booked_input_tokens), 'outputTokens', coalesce(a.output_tokens, a.booked_output_tokens))) AS calls
      FROM attempts a
      WHERE a.started_at > now() - interval '${RECENT_SECONDS} seconds' AND a.provider = $1 AND a.model = ANY($3)
    ), running AS (
      SELECT json_agg(json_build_object('id', a.task_id)) AS open
      FROM attempts a JOIN tasks t ON t.id = a.task_id AND t.attempts = a.n AND (t.status || '') = 'running'
      WHERE a.outcome = 'started' AND a.provider = $1 AND a.model = ANY($3)
    )
    SELECT coalesce((SELECT first FROM opened), false) AS first, coalesce(recent.calls, '[]') AS calls, coalesce(running.open, '[]') AS open
    FROM recent CROSS JOIN running`,
}

type SeedRow = Pick<SeedData, 'calls' | 'open'> & { first: boolean }

/** Reads the state of a target from the ledger, for a gate missing in Redis, and records the target as used. */
export const createSeeder =
  (db: Db) =>
  async ({ provider, model }: Target): Promise<SeedData> => {
    // No call of this target can start under another name before its gate is seeded.
    const called = await db.query<{ model: string }>(namesStatement, [provider])
    const names = called
      .map(one => one.model)
      .filter(name => canonicalTarget({ provider, model: name }).model === model)
    const [row] = await db.query<SeedRow>(seedStatement, [provider, model, names])
    const { first, calls, open } = row!
    // Calls may be older than the row.
    return { firstEver: first && calls.length === 0 && open.length === 0, calls, open }
  }

const useStatement = {
  name: 'gates_use',
  text: PUT,
}

/** The first condition is checked again under the row lock, because the target may be in use again. */
const pruneStatement = {
  name: 'gates_prune',
  text: `DELETE FROM gates WHERE opened_at < now() - interval '${UNUSED_DAYS} days' AND (provider, model) IN (
    SELECT provider, model FROM gates WHERE opened_at < now() - interval '${UNUSED_DAYS} days' LIMIT ${PRUNE_ROWS})`,
}

/** Records that a target is in use. */
export const markUsed = (db: Db, { provider, model }: Target) => db.query(useStatement, [provider, model])

/** Deletes rows of targets unused for UNUSED_DAYS, at most PRUNE_ROWS. */
export const pruneGates = (db: Db) => db.query(pruneStatement)
