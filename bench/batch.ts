import { mkdtempSync, openAsBlob, rmSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { limitedKey } from './accept.ts'
import { openLoop, quantile } from './latency.ts'
import type { Child, Servers } from './servers.ts'

export type BatchFigures = {
  lines: number
  megabytes: number
  /** Seconds from the first byte of the upload to `in_progress`. */
  started: number
  /** Finished lines per second, from `in_progress` to the last one. */
  rate: number
  /** Download of the output file. */
  downloadMbPerSecond: number
  /** Maximum, in MB. */
  apiRss: number
  workerRss: number
  redisMb: number
  /** p99 of an interactive task in milliseconds, alone and while the batch runs. */
  idle: number
  busy: number
}

const INTERACTIVE_PER_SECOND = 20
/** The interval of a well-behaved client. */
const POLL_MS = 500

/** A batch of many lines, from the upload to its output, beside interactive tasks. */
export async function benchBatch(servers: Servers, options: { lines: number }): Promise<BatchFigures> {
  const bench = await open(servers)
  try {
    const { api, worker, key } = bench
    await bench.interactive(3)
    const idle = quantile(await bench.interactive(10), 0.99)
    const most = watch(servers, api, worker)
    const input = bench.file(options.lines, 'one')
    const begun = performance.now()
    const id = await bench.submit(input)
    await bench.until(id, one => one.in_progress_at !== undefined)
    const started = (performance.now() - begun) / 1000
    const running = performance.now()
    let over = false
    const took: number[] = []
    const beside = (async () => {
      while (!over) took.push(...(await bench.interactive(1)))
    })()
    const done = await bench.until(id, one => one.request_counts.completed === options.lines)
    const rate = options.lines / ((performance.now() - running) / 1000)
    over = true
    await beside
    const { output_file_id } = done.output_file_id ? done : await bench.until(id, one => one.status === 'completed')
    const from = performance.now()
    const response = await fetch(`${bench.url}/v1/files/${output_file_id}/content`, {
      headers: { authorization: `Bearer ${key}` },
    })
    let bytes = 0
    for await (const piece of response.body!) bytes += piece.length
    const downloadMbPerSecond = bytes / 1e6 / ((performance.now() - from) / 1000)
    const { apiRss, workerRss, redisMb } = await most()
    return {
      ...{ lines: options.lines, megabytes: input.bytes / 1e6, started, rate, downloadMbPerSecond },
      ...{ apiRss, workerRss, redisMb, idle, busy: quantile(took, 0.99) },
    }
  } finally {
    await bench.close()
  }
}

export type ManyFigures = {
  lines: number
  /** Finished lines per second, over the first and the last tenth. */
  first: number
  last: number
  apiRss: number
  workerRss: number
  redisMb: number
}

/** Many lines in several concurrent batches: do rate and memory stay constant? */
export async function benchBatches(
  servers: Servers,
  options: { batches: number; lines: number },
): Promise<ManyFigures> {
  const bench = await open(servers)
  try {
    const most = watch(servers, bench.api, bench.worker)
    const ids: string[] = []
    for (let n = 0; n < options.batches; n++) ids.push(await bench.submit(bench.file(options.lines, `b${n}`)))
    const total = options.batches * options.lines
    const tenth = total / 10
    const marks: { at: number; done: number }[] = []
    for (let done = 0; done < total; await sleep(500)) {
      const all = await Promise.all(ids.map(id => bench.read(id)))
      done = all.reduce((sum, one) => sum + one.request_counts.completed, 0)
      marks.push({ at: performance.now(), done })
      if (all.some(one => one.status === 'failed')) throw new Error('batches: one failed')
    }
    const when = (done: number) => marks.find(mark => mark.done >= done)!
    const rate = (from: { at: number; done: number }, to: { at: number; done: number }) =>
      (to.done - from.done) / ((to.at - from.at) / 1000)
    const begun = marks.findLast(mark => mark.done === 0) ?? marks[0]!
    return {
      lines: total,
      first: rate(begun, when(tenth)),
      last: rate(when(total - tenth), when(total)),
      ...(await most()),
    }
  } finally {
    await bench.close()
  }
}

type Batch = {
  id: string
  status: string
  in_progress_at?: number
  output_file_id?: string
  request_counts: { completed: number; failed: number }
}

async function open(servers: Servers) {
  const env = { ANTHROPIC_API_KEY: 'none', ANTHROPIC_BASE_URL: servers.upstreamUrl }
  const api = await servers.start('apps/api/main.ts', env)
  // As in `npm start`.
  const single = await servers.start('workers/main.ts', env, ['--queues', 'default'])
  const worker = await servers.start('workers/main.ts', env, ['--queues', 'batch'])
  const key = await limitedKey(api.port)
  const url = `http://127.0.0.1:${api.port}`
  const dir = mkdtempSync(join(tmpdir(), 'sluice-bench-batch-'))
  const agent = new Agent({ keepAlive: true })
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
  let asked = 0

  async function json<T>(path: string, init: RequestInit = {}): Promise<T> {
    const response = await fetch(`${url}${path}`, init)
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`)
    return (await response.json()) as T
  }
  const read = (id: string) => json<Batch>(`/v1/batches/${id}`, { headers })

  return {
    api,
    worker,
    key,
    url,
    read,
    /** About 500 bytes per line, all different. */
    file(lines: number, name: string): { path: string; bytes: number } {
      const path = join(dir, `${name}.jsonl`)
      const padding = 'A product that does what it says, and nothing else. '.repeat(6)
      const text = Array.from({ length: lines }, (_, index) =>
        JSON.stringify({
          custom_id: `${name}-${index}`,
          method: 'POST',
          url: '/v1/chat/completions',
          body: {
            model: 'claude-haiku-5-5',
            max_tokens: 100,
            messages: [{ role: 'user', content: `Is review ${name} ${index} positive? ${padding}` }],
          },
        }),
      ).join('\n')
      writeFileSync(path, text)
      return { path, bytes: Buffer.byteLength(text) }
    },
    async submit({ path }: { path: string }): Promise<string> {
      const form = new FormData()
      form.set('file', await openAsBlob(path), 'in.jsonl')
      form.set('purpose', 'batch')
      const { id } = await json<{ id: string }>('/v1/files', {
        method: 'POST',
        body: form,
        headers: { authorization: headers.authorization },
      })
      const body = { input_file_id: id, endpoint: '/v1/chat/completions', completion_window: '24h' }
      return (await json<Batch>('/v1/batches', { method: 'POST', headers, body: JSON.stringify(body) })).id
    },
    async until(id: string, done: (batch: Batch) => boolean): Promise<Batch> {
      for (;;) {
        const batch = await read(id)
        if (done(batch)) return batch
        if (['failed', 'expired', 'cancelled'].includes(batch.status)) throw new Error(`batch: ${batch.status}`)
        await sleep(POLL_MS)
      }
    },
    /** Latency of each interactive task during these seconds, in milliseconds. */
    interactive: (seconds: number) =>
      openLoop(
        () =>
          new Promise<void>((resolve, reject) => {
            const call = request(
              `${url}/api/v1/tasks/generate`,
              { method: 'POST', agent, headers: { ...headers, prefer: 'wait=60' } },
              response => {
                response.resume()
                response.on('end', () =>
                  response.statusCode === 200 ? resolve() : reject(new Error(`status ${response.statusCode}`)),
                )
              },
            )
            call.on('error', reject)
            const input = { prompt: `Three titles for a post on Redis ${++asked}` }
            call.end(JSON.stringify({ input, options: { priority: 'interactive' } }))
          }),
        INTERACTIVE_PER_SECOND,
        seconds,
      ),
    async close() {
      agent.destroy()
      await Promise.all([api.stop(), worker.stop(), single.stop()])
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

/** Samples memory. @returns a function that stops and returns the maxima in MB */
function watch(servers: Servers, api: Child, worker: Child) {
  const most = { apiRss: 0, workerRss: 0, redisMb: 0 }
  let over = false
  const looking = (async () => {
    while (!over) {
      most.apiRss = Math.max(most.apiRss, api.rssMb())
      most.workerRss = Math.max(most.workerRss, worker.rssMb())
      most.redisMb = Math.max(most.redisMb, await servers.redisMb())
      await sleep(250)
    }
  })()
  return async () => {
    over = true
    await looking
    return most
  }
}
