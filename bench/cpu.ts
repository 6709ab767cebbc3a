import { readdirSync, readFileSync } from 'node:fs'
import autocannon from 'autocannon'
import pg from 'pg'
import { BODY, limitedKey } from './accept.ts'
import { anyLive, sleepUntil } from './drain.ts'
import type { Servers } from './servers.ts'

/** CPU microseconds per task, by process: less variable than rates on a busy machine. */
export type CpuFigures = { accept: Record<string, number>; drain: Record<string, number> }

export async function benchCpu(servers: Servers, options: { tasks: number }): Promise<CpuFigures> {
  const env = { ANTHROPIC_API_KEY: 'none', ANTHROPIC_BASE_URL: servers.upstreamUrl }
  const api = await servers.start('apps/api/main.ts', env)
  const worker = await servers.start('workers/main.ts', env)
  const key = await limitedKey(api.port)
  const pool = new pg.Pool({ connectionString: servers.databaseUrl, max: 1, options: '-c enable_seqscan=off' })
  // When another part fails, the server stops.
  pool.on('error', () => {})
  const submit = (amount: number) =>
    autocannon({
      url: `http://127.0.0.1:${api.port}/api/v1/tasks/generate`,
      method: 'POST',
      connections: 64,
      amount,
      headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
      body: BODY,
      idReplacement: true,
    })
  const per = (before: Record<string, number>, after: Record<string, number>) =>
    Object.fromEntries(
      Object.entries(after).map(([name, ms]) => [name, ((ms - (before[name] ?? 0)) * 1000) / options.tasks]),
    )

  await submit(10_000)
  await sleepUntil(async () => !(await anyLive(pool)))
  process.kill(worker.pid, 'SIGSTOP')
  const idle = cpuMs()
  await submit(options.tasks)
  const accepted = cpuMs()
  process.kill(worker.pid, 'SIGCONT')
  await sleepUntil(async () => !(await anyLive(pool)))
  const drained = cpuMs()
  await Promise.all([api.stop(), worker.stop()])
  await pool.end()
  return { accept: per(idle, accepted), drain: per(accepted, drained) }
}

const NAMES: [pattern: RegExp, name: string][] = [
  [/apps\/api\/main/, 'api'],
  [/workers\/main/, 'worker'],
  [/bench\/upstream/, 'upstream'],
  [/redis-server/, 'redis'],
  [/postgres/, 'postgres'],
]

/** CPU time of the descendants of this process, in milliseconds, by name. */
function cpuMs(): Record<string, number> {
  const processes = readdirSync('/proc')
    .filter(entry => /^\d+$/.test(entry))
    .flatMap(pid => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ')
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
        return [{ pid, parent: stat[1]!, ms: (Number(stat[11]) + Number(stat[12])) * 10, command }]
      } catch {
        return []
      }
    })
  const ours = new Set([String(process.pid)])
  for (let size = 0; size !== ours.size; ) {
    size = ours.size
    for (const one of processes) if (ours.has(one.parent)) ours.add(one.pid)
  }
  const sums: Record<string, number> = {}
  for (const one of processes) {
    const name = ours.has(one.pid) && NAMES.find(([pattern]) => pattern.test(one.command))?.[1]
    if (name) sums[name] = (sums[name] ?? 0) + one.ms
  }
  return sums
}
