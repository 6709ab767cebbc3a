import { targetOf } from '#shared/gate/target.ts'
import type { SeedData, Target } from '#shared/gate/types.ts'
import type { Db } from './pool.ts'

/**
 * A row whose target has not been in use for so long goes. Nobody needs it: a gate that is not used is gone from Redis after
 * a day (state.lua), so that nothing of it can be lost. Use is written down every hour (gate/targets.ts).
 */
const UNUSED_DAYS = 3
const FORGET_ROWS = 10_000

/** A little more than the gate's window, which is gate.ts's to say. */
const RECENT_SECONDS = 65

/** What models of a provider were called lately, or are being called, by the names in the ledger. */
const namesStatement = {
  name: 'gates_names',
  text: `SELECT model FROM attempts WHERE started_at > now() - interval '${RECENT_SECONDS} seconds' AND provider = $1
    UNION SELECT model FROM attempts WHERE outcome = 'started' AND provider = $1`,
}

/**
 * Ages are by Postgres's clock, at the beginning of the statement: a call counts a little longer rather than less.
 * What a call has used is what the provider said, and until then what was booked.
 */
const seedStatement = {
  name: 'gates_seed',
  text: `WITH opened AS (
      INSERT INTO gates (provider, model, opened_at) VALUES ($1, $2, now())
      ON CONFLICT (provider, model) DO UPDATE SET opened_at = excluded.opened_at RETURNING xmax = 0 AS first
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
    SELECT opened.first, coalesce(recent.calls, '[]') AS calls, coalesce(running.open, '[]') AS open
    FROM opened CROSS JOIN recent CROSS JOIN running`,
}

type SeedRow = Pick<SeedData, 'calls' | 'open'> & { first: boolean }

/** What the ledger knows of a target, for a gate that Redis does not know. Writes down that it has been opened. */
export const createSeeder =
  (db: Db) =>
  async ({ provider, model }: Target): Promise<SeedData> => {
    // No call of this gate's can begin under a new name before it is seeded.
    const called = await db.query<{ model: string }>(namesStatement, [provider])
    const names = called.map(one => one.model).filter(name => targetOf({ provider, model: name }).model === model)
    const [row] = await db.query<SeedRow>(seedStatement, [provider, model, names])
    const { first, calls, open } = row!
    // Calls from before the gates were written down are calls, too.
    return { firstEver: first && calls.length === 0 && open.length === 0, calls, open }
  }

const useStatement = {
  name: 'gates_use',
  text: `INSERT INTO gates (provider, model, opened_at) VALUES ($1, $2, now())
    ON CONFLICT (provider, model) DO UPDATE SET opened_at = excluded.opened_at`,
}

/** Looked at again when its row is locked: it may be in use again. */
const forgetStatement = {
  name: 'gates_forget',
  text: `DELETE FROM gates WHERE opened_at < now() - interval '${UNUSED_DAYS} days' AND (provider, model) IN (
    SELECT provider, model FROM gates WHERE opened_at < now() - interval '${UNUSED_DAYS} days' LIMIT ${FORGET_ROWS})`,
}

/** Writes down that a target is in use. */
export const noteUse = (db: Db, { provider, model }: Target) => db.query(useStatement, [provider, model])

/** Drops the rows of targets that have not been in use for days, a slice of them: clients name models. */
export const forgetGates = (db: Db) => db.query(forgetStatement)
