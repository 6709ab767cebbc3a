import { cpus, release, totalmem } from 'node:os'
import { parseArgs } from 'node:util'
import { benchAccept } from './accept.ts'
import { benchBatch, benchBatches } from './batch.ts'
import { benchCached } from './cached.ts'
import { benchCpu } from './cpu.ts'
import { benchDrain } from './drain.ts'
import { benchGate } from './gate.ts'
import { benchHang } from './hang.ts'
import { benchLatency } from './latency.ts'
import { benchLimit } from './limit.ts'
import { benchLive, type Rate } from './live.ts'
import { startServers } from './servers.ts'

/**
 * `npm run bench [-- --only accept,cached,latency,live,drain,gate,limit,hang,batch,batches,cpu] [--quick]` prints the figures of
 * docs/benchmarks.md. The load generator, Postgres with fsync on, Redis, the fake provider and Sluice share the machine:
 * compare ratios within a run.
 */
const { values } = parseArgs({ options: { only: { type: 'string' }, quick: { type: 'boolean', default: false } } })
const wanted = (name: string) => values.only === undefined || values.only.split(',').includes(name)
const quick = values.quick

const rows: [measurement: string, result: string, target: string][] = []
const n = (value: number, digits = 0) =>
  value.toLocaleString('en-US', { maximumFractionDigits: digits, minimumFractionDigits: digits })
const percent = (part: number, whole: number) => `${n((100 * part) / whole)}%`

const servers = await startServers()
try {
  if (wanted('accept')) {
    const { bare, bareP99, sluice, p50, p99 } = await benchAccept(
      servers,
      quick ? { rounds: 1, seconds: 4 } : { rounds: 3, seconds: 8 },
    )
    rows.push(['accept: bare Fastify route with one coalesced INSERT', `${n(bare)}/s, p99 ${n(bareP99)} ms`, ''])
    rows.push(['accept: durable 202s, 64 connections', `${n(sluice)}/s, p50 ${n(p50)} ms, p99 ${n(p99)} ms`, ''])
    rows.push(['accept: share of the bare route', percent(sluice, bare), '>= 45%'])
  }
  if (wanted('cached')) {
    await servers.clear()
    const { ratio, cached, p50, p99 } = await benchCached(
      servers,
      quick ? { rounds: 1, seconds: 4 } : { rounds: 3, seconds: 8 },
    )
    rows.push(['cached: answers (200), 64 connections', `${n(cached)}/s, p50 ${n(p50)} ms`, ''])
    rows.push(['cached: relative to accept in the same run', `${n(100 * ratio)}%`, '>= 80%'])
    rows.push(['cached: p99', `${n(p99)} ms`, '< 15 ms'])
  }
  if (wanted('gate')) {
    const { rate, p50, p99, redisMicros } = await benchGate({ perSecond: 3000, seconds: quick ? 4 : 10 })
    rows.push([`gate: one decision at ${n(rate)}/s, p50 (Redis alone: ${n(redisMicros)} µs)`, `${n(p50, 2)} ms`, ''])
    rows.push(['gate: p99', `${n(p99, 1)} ms`, '< 2 ms'])
  }
  if (wanted('latency')) {
    await servers.clear()
    const { rate, p50, p99, upstreamP50, upstreamP99, commitsP50, commitsP99 } = await benchLatency(servers, {
      perSecond: 200,
      seconds: quick ? 5 : 20,
    })
    rows.push([
      `latency: added by \`Prefer: wait\` at ${rate} tasks/s, p50`,
      `${n(p50 - upstreamP50, 1)} ms`,
      '<= 8 ms',
    ])
    rows.push(['latency: p99', `${n(p99 - upstreamP99, 1)} ms`, '<= 25 ms'])
    rows.push(['latency: three bare commits in sequence, p50, p99', `${n(commitsP50, 1)}, ${n(commitsP99, 1)} ms`, ''])
  }
  if (wanted('live')) {
    await servers.clear()
    for (const { connections, portkey, sluice } of await benchLive(
      servers,
      quick ? { rounds: 1, seconds: 5 } : { rounds: 3, seconds: 10 },
    )) {
      const show = ({ perSecond, p50, p99 }: Rate) => `${n(perSecond)}/s, p50 ${n(p50, 1)} ms, p99 ${n(p99, 1)} ms`
      const name = `live: chat completions, ${connections} connection${connections > 1 ? 's' : ''}`
      rows.push([`${name}, Portkey`, show(portkey), ''])
      rows.push([`${name}, Sluice`, show(sluice), 'better'])
    }
  }
  if (wanted('drain')) {
    await servers.clear()
    const { sdk, sluice, governed, apiRss, workerRss } = await benchDrain(
      servers,
      quick ? { rounds: 1, tasks: 10_000 } : { rounds: 3, tasks: 20_000 },
    )
    rows.push(['drain: the Anthropic SDK alone, concurrency 100', `${n(sdk)} calls/s`, ''])
    rows.push(['drain: finished tasks of one worker process', `${n(sluice)}/s`, ''])
    rows.push(['drain: share of the SDK alone', percent(sluice, sdk), '>= 55%'])
    rows.push(['drain: with 5 budgets and all limits, relative to without', percent(governed, sluice), '>= 90%'])
    const total = 2 * apiRss.length * (quick ? 10_000 : 20_000)
    rows.push([
      `memory: API after ${n(total)} tasks (after each round: ${apiRss.map(mb => n(mb)).join(', ')})`,
      `${n(apiRss.at(-1)!)} MB`,
      '< 200 MB',
    ])
    rows.push([
      `memory: worker (after each round: ${workerRss.map(mb => n(mb)).join(', ')})`,
      `${n(workerRss.at(-1)!)} MB`,
      '< 250 MB',
    ])
  }
  if (wanted('limit')) {
    await servers.clear()
    const { limit, refused, best, worst } = await benchLimit(servers, { limit: 600, seconds: quick ? 70 : 150 })
    rows.push([`limit: ${n(limit)} calls a minute, tasks at twice that rate, refused by the provider`, n(refused), '0'])
    rows.push(['limit: used share in the worst minute', percent(worst, limit), '>= 90%'])
    rows.push(['limit: used share in the best minute', percent(best, limit), '<= 100%'])
  }
  if (wanted('hang')) {
    await servers.clear()
    const { healthyP99, p99, timeouts, twice } = await benchHang(servers, { perSecond: 50, seconds: quick ? 10 : 20 })
    rows.push(['hang: p99 of the healthy provider', `${n(healthyP99)} ms`, ''])
    rows.push(['hang: p99 of tasks submitted 5 s after the other provider hung', `${n(p99)} ms`, 'within 10%'])
    rows.push(['hang: tasks with one timeout, with two', `${n(timeouts)}, ${n(twice)}`, 'few, 0'])
  }
  if (wanted('batch')) {
    await servers.clear()
    const lines = quick ? 10_000 : 50_000
    const one = await benchBatch(servers, { lines })
    const batch = `batch of ${n(lines)} lines (${n(one.megabytes)} MB)`
    rows.push([`${batch}: upload to \`in_progress\``, `${n(one.started, 1)} s`, '<= 10 s'])
    rows.push(['batch: finished lines of one worker process', `${n(one.rate)}/s`, '>= 2,500/s'])
    rows.push(['batch: download of the output', `${n(one.downloadMbPerSecond)} MB/s`, '>= 50 MB/s'])
    rows.push(['batch: maximum memory of API, worker', `${n(one.apiRss)}, ${n(one.workerRss)} MB`, '< 300 MB'])
    rows.push(['batch: maximum memory of Redis', `${n(one.redisMb, 1)} MB`, '< 20 MB'])
    rows.push(['batch: p99 of an interactive task, idle', `${n(one.idle)} ms`, ''])
    rows.push(['batch: p99 of an interactive task while the batch runs', `${n(one.busy)} ms`, '< 3 x idle'])
  }
  // A million lines take twenty minutes, so this part runs only on request.
  if (values.only?.split(',').includes('batches')) {
    await servers.clear()
    const many = await benchBatches(servers, { batches: 20, lines: quick ? 5000 : 50_000 })
    rows.push([`${n(many.lines)} lines in 20 batches: rate over the first tenth`, `${n(many.first)}/s`, ''])
    rows.push(['batches: rate over the last tenth', `${n(many.last)}/s, ${percent(many.last, many.first)}`, '>= 85%'])
    rows.push(['batches: maximum memory of API, worker', `${n(many.apiRss)}, ${n(many.workerRss)} MB`, '< 300 MB'])
    rows.push(['batches: maximum memory of Redis', `${n(many.redisMb, 1)} MB`, '< 20 MB'])
  }
  if (wanted('cpu')) {
    await servers.clear()
    const tasks = quick ? 10_000 : 40_000
    const { accept, drain } = await benchCpu(servers, { tasks })
    const list = (by: Record<string, number>) =>
      Object.entries(by)
        .filter(([, us]) => us >= 0.5)
        .map(([name, us]) => `${name} ${n(us)}`)
        .join(', ')
    rows.push(['cpu: to accept a task, by process', `${list(accept)} µs`, ''])
    rows.push(['cpu: to run a task, by process', `${list(drain)} µs`, ''])
  }
} finally {
  await servers.stop()
}

const command = ['npm run bench', process.argv.slice(2).join(' ')].filter(Boolean).join(' -- ')
process.stdout.write(
  [
    `\`${command}\` on ${cpus().length} x ${cpus()[0]?.model.trim()}, ${n(totalmem() / 2 ** 30)} GiB, Linux ${release()}, Node ${process.version}`,
    '',
    '| measurement | result | target |',
    '|---|---|---|',
    ...rows.map(row => `| ${row.join(' | ')} |`),
    '',
  ].join('\n'),
)
