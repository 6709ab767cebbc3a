import { ask } from './clients.ts'
import { KEYS, type KeyName, type Plan, PROVIDERS } from './plan.ts'
import type { Sql } from './servers.ts'

const GENEROUS_USD = '1000'

/** Sets keys, budgets and limits over HTTP, as an operator would. @throws if the API refuses a request */
export async function prepare(api: string, adminKey: string, plan: Plan): Promise<Record<KeyName, string>> {
  const call = async (method: string, path: string, body: unknown) => {
    const answer = await ask(`${api}${path}`, adminKey, { method, body })
    if (answer?.status === 200 || answer?.status === 201) return answer.body
    throw new Error(`${method} ${path}: ${answer?.status ?? 'no answer'} ${JSON.stringify(answer?.body)}`)
  }
  const keys = await Promise.all(KEYS.map(name => call('POST', '/api/v1/keys', { name })))
  const tight = keys[KEYS.indexOf('tight')].id
  await call('PUT', '/api/v1/budgets', { scope: 'global', window: 'day', limit_usd: GENEROUS_USD })
  await call('PUT', '/api/v1/budgets', { scope: 'kind:generate', window: 'hour', limit_usd: GENEROUS_USD })
  await call('PUT', '/api/v1/budgets', { scope: 'provider:anthropic', window: 'month', limit_usd: GENEROUS_USD })
  await call('PUT', '/api/v1/budgets', { scope: `key:${tight}`, window: 'total', limit_usd: plan.tightLimitUsd })
  for (const name of PROVIDERS) await call('PUT', `/api/v1/providers/${name}/limits`, plan.limits[name])
  return Object.fromEntries(KEYS.map((name, index) => [name, keys[index].key])) as Record<KeyName, string>
}

/**
 * Installs triggers that record two violations, even if they are committed only briefly: a change of a task that has ended,
 * and a budget window above its limit.
 */
export async function installWitnesses(sql: Sql): Promise<void> {
  const state = (row: string) =>
    `(${row}.status, ${row}.source, ${row}.finished_at, ${row}.result::text, ${row}.error::text)`
  const ended = `OLD.status IN ('succeeded', 'failed', 'cancelled', 'expired')`
  for (const statement of [
    'CREATE SCHEMA chaos',
    'CREATE TABLE chaos.changed (task_id uuid, was text, is_now text, at timestamptz DEFAULT clock_timestamp())',
    'CREATE TABLE chaos.overshot (window_id bigint, usd numeric, at timestamptz DEFAULT clock_timestamp())',
    `CREATE FUNCTION chaos.note_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      INSERT INTO chaos.changed (task_id, was, is_now) VALUES (OLD.id, OLD.status, CASE TG_OP WHEN 'UPDATE' THEN NEW.status END);
      RETURN NULL; END $$`,
    `CREATE FUNCTION chaos.note_overshoot() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      INSERT INTO chaos.overshot (window_id, usd) VALUES (NEW.id, NEW.reserved_usd + NEW.spent_usd - NEW.limit_usd);
      RETURN NULL; END $$`,
    `CREATE TRIGGER chaos_changed AFTER UPDATE ON tasks FOR EACH ROW
      WHEN (${ended} AND ${state('NEW')} IS DISTINCT FROM ${state('OLD')}) EXECUTE FUNCTION chaos.note_change()`,
    `CREATE TRIGGER chaos_deleted AFTER DELETE ON tasks FOR EACH ROW EXECUTE FUNCTION chaos.note_change()`,
    `CREATE TRIGGER chaos_overshot AFTER UPDATE ON budget_windows FOR EACH ROW
      WHEN (NEW.reserved_usd + NEW.spent_usd > NEW.limit_usd) EXECUTE FUNCTION chaos.note_overshoot()`,
  ])
    await sql(statement)
}
