import { setTimeout as sleep } from 'node:timers/promises'
import autocannon from 'autocannon'
import pg from 'pg'
import { BODY, limitedKey, median } from './accept.ts'
import { asAdmin } from './limit.ts'
import type { Servers } from './servers.ts'

/** `governed`: with five budgets and all limits. */
export type DrainFigures = { sdk: number; sluice: number; governed: number; apiRss: number[]; workerRss: number[] }

/**
 * Finished tasks per second of one worker process with a full queue, and calls per second of the SDK alone, alternating.
 * Also memory after each round.
 */
export async function benchDrain(servers: Servers, options: { rounds: number; tasks: number }): Promise<DrainFigures> {
  const env = { ANTHROPIC_API_KEY: 'none', ANTHROPIC_BASE_URL: servers.upstreamUrl }
  const api = await servers.start('apps/api/main.ts', env)
  const key = await limitedKey(api.port)
  const pool = new pg.Pool({ connectionString: servers.databaseUrl, max: 2, options: '-c enable_seqscan=off' })
  // When another part fails, the server stops.
  pool.on('error', () => {})
  const worker = await servers.start('workers/main.ts', env)
  const figures = {
    sdk: [] as number[],
    sluice: [] as number[],
    governed: [] as number[],
    apiRss: [] as number[],
    workerRss: [] as number[],
  }

  for (let round = 0; round < options.rounds; round++) {
    const sdk = await servers.start('bench/sdk-loop.ts', { ...env, COUNT: String(options.tasks) })
    figures.sdk.push(sdk.port)
    await sdk.stop()
    figures.sluice.push(await drainOnce(pool, api.port, key, worker.pid, options.tasks))
    const release = await govern(api.port)
    figures.governed.push(await drainOnce(pool, api.port, key, worker.pid, options.tasks))
    await release()
    figures.apiRss.push(api.rssMb())
    figures.workerRss.push(worker.rssMb())
  }
  await Promise.all([api.stop(), worker.stop()])
  await pool.end()
  return { ...figures, sdk: median(figures.sdk), sluice: median(figures.sluice), governed: median(figures.governed) }
}

const SCOPES = [
  ['global', 'month'],
  ['global', 'day'],
  ['kind:generate', 'hour'],
  ['provider:anthropic', 'day'],
  ['provider:anthropic', 'total'],
] as const
const LIMITS = {
  rpm: 10_000_000,
  tpm: 1_000_000_000_000,
  itpm: 1_000_000_000_000,
  otpm: 1_000_000_000_000,
  concurrency: 100_000,
}
const NO_LIMITS = { rpm: null, tpm: null, itpm: null, otpm: null, concurrency: null }

/** Sets budgets and limits that are never reached. @returns a function that removes them */
async function govern(port: number): Promise<() => Promise<void>> {
  const budgets: { id: string }[] = []
  for (const [scope, window] of SCOPES)
    budgets.push((await asAdmin(port, 'PUT', '/budgets', { scope, window, limit_usd: 1_000_000 })) as { id: string })
  await asAdmin(port, 'PUT', '/providers/anthropic/limits', LIMITS)
  return async () => {
    for (const { id } of budgets) await asAdmin(port, 'DELETE', `/budgets/${id}`)
    await asAdmin(port, 'PUT', '/providers/anthropic/limits', NO_LIMITS)
  }
}

/** Fills the queue while the worker is stopped (SIGSTOP), continues it, and measures the time to the last result. */
async function drainOnce(pool: pg.Pool, port: number, key: string, workerPid: number, tasks: number): Promise<number> {
  const before = await finished(pool)
  process.kill(workerPid, 'SIGSTOP')
  const fill = async () =>
    await autocannon({
      url: `http://127.0.0.1:${port}/api/v1/tasks/generate`,
      method: 'POST',
      connections: 64,
      amount: tasks,
      headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
      body: BODY,
      idReplacement: true,
    })
  const filled = await fill().finally(() => process.kill(workerPid, 'SIGCONT'))
  const begun = (await pool.query('SELECT now() AS now')).rows[0].now as Date
  if (filled['2xx'] !== tasks) throw new Error(`drain: ${filled['2xx']} of ${tasks} accepted`)
  await sleepUntil(async () => !(await anyLive(pool)))
  const done = (await finished(pool)) - before
  if (done !== tasks) throw new Error(`drain: ${done} of ${tasks} answered`)
  const { rows } = await pool.query(
    "SELECT extract(epoch FROM max(finished_at) - $1) AS seconds FROM tasks WHERE status = 'succeeded'",
    [begun],
  )
  return tasks / Number(rows[0].seconds)
}

/** Uses the index of live tasks: counting finished tasks repeatedly would cost Postgres as much as running them. */
export const anyLive = async (pool: pg.Pool): Promise<boolean> =>
  (await pool.query("SELECT EXISTS (SELECT FROM tasks WHERE status IN ('queued', 'running')) AS live")).rows[0].live

export const finished = async (pool: pg.Pool) =>
  Number((await pool.query("SELECT count(*) FROM tasks WHERE status = 'succeeded' AND source = 'ai'")).rows[0].count)

export async function sleepUntil(done: () => Promise<boolean>): Promise<void> {
  while (!(await done())) await sleep(200)
}
