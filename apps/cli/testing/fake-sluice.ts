import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Batch, BatchProblem, BatchStatus } from '../../client/index.ts'
import { parseForm } from './form.ts'

/** As much of the server as the command line needs, in memory, with faults on demand. It takes nothing but what the API takes. */

export const KEY = 'sk-sluice-of-the-fake'

type Stored = { bytes: Buffer; filename: string; purpose: string }
type StoredBatch = {
  id: string
  status: BatchStatus
  created_at: number
  /** Unix time, seconds, by the status that it reached. */
  reached: Partial<Record<`${BatchStatus}_at`, number>>
  input_file_id: string
  endpoint: string
  metadata: Record<string, string>
  max_cost_usd: number | null
  counts: Batch['counts']
  errors: BatchProblem[] | null
  output: string | null
  error: string | null
}

/** `lost`: it is done, but the connection breaks before the answer; `half`: in the middle of it; a promise: that, when it resolves. */
export type Fault = { status: number; headers?: Record<string, string> } | 'cut' | 'lost' | 'half' | null
export type FaultFor = (call: { method: string; path: string; nth: number }) => Fault | Promise<Fault>

const NEXT: Record<BatchStatus, BatchStatus[]> = {
  validating: ['in_progress', 'failed', 'cancelling'],
  in_progress: ['in_progress', 'finalizing', 'cancelling', 'expired'],
  finalizing: ['completed'],
  cancelling: ['cancelled'],
  completed: [],
  failed: [],
  expired: [],
  cancelled: [],
}

class Refusal extends Error {
  readonly status: number
  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

export type FakeSluice = Awaited<ReturnType<typeof startFakeSluice>>

export async function startFakeSluice() {
  const files = new Map<string, Stored>()
  const batches: StoredBatch[] = []
  /** `GET /v1/batches` and the like, as they came. */
  const calls: string[] = []
  const waiters = new Set<{ ready: () => boolean; resolve: () => void }>()
  let faultFor: FaultFor = () => null
  let server: Server | null = null
  let port = 0
  let made = 0
  const newId = (prefix: string) => `${prefix}_${String(++made).padStart(32, '0')}`
  const changed = () => {
    for (const waiter of waiters) {
      if (!waiter.ready()) continue
      waiters.delete(waiter)
      waiter.resolve()
    }
  }

  function putFile(filename: string, bytes: Buffer, purpose: string): string {
    const id = newId('file')
    files.set(id, { bytes, filename, purpose })
    return id
  }
  const find = (id: string): StoredBatch => {
    const batch = batches.find(one => one.id === id)
    if (!batch) throw new Refusal(404, `No such batch: ${id}`)
    return batch
  }

  /** Only what the life of a batch allows. */
  function move(batch: StoredBatch, status: BatchStatus, change: Partial<StoredBatch> = {}) {
    if (!NEXT[batch.status].includes(status)) throw new Error(`a batch does not go from ${batch.status} to ${status}`)
    Object.assign(batch, change, { status })
    batch.reached[`${status}_at`] = Math.floor(Date.now() / 1000)
    changed()
  }

  /** Its next step, as an unhurried server would take it; lines that hold "fail" do. */
  function step(batch: StoredBatch) {
    const lines = files.get(batch.input_file_id)!.bytes.toString().trim().split('\n')
    const failing = lines.filter(line => line.includes('fail'))
    const answers = (of: string[]) =>
      of.length === 0 ? null : putFile('answers', Buffer.from(`${of.join('\n')}\n`), 'batch_output')
    const ended = { succeeded: lines.length - failing.length, failed: failing.length }
    if (batch.status === 'validating') {
      if (lines.some(line => line.includes('invalid'))) {
        return move(batch, 'failed', {
          errors: [{ code: 'invalid_json_line', line: 1, message: 'Not JSON.', param: null }],
        })
      }
      return move(batch, 'in_progress', { counts: { ...batch.counts, total: lines.length } })
    }
    if (batch.status === 'in_progress') return move(batch, 'finalizing', { counts: { ...batch.counts, ...ended } })
    if (batch.status === 'cancelling') {
      const { total, succeeded, failed } = batch.counts
      const counts = { ...batch.counts, cancelled: total - succeeded - failed }
      return move(batch, 'cancelled', { counts, error: answers([`{"cancelled":${counts.cancelled}}`]) })
    }
    const done = lines.filter(line => !failing.includes(line)).map(line => JSON.stringify({ answered: line }))
    const failed = failing.map(line => JSON.stringify({ failed: line }))
    return move(batch, 'completed', { output: answers(done), error: answers(failed) })
  }

  const openai = (batch: StoredBatch) => ({
    id: batch.id,
    object: 'batch',
    endpoint: batch.endpoint,
    input_file_id: batch.input_file_id,
    completion_window: '24h',
    status: batch.status,
    ...(batch.output !== null && { output_file_id: batch.output }),
    ...(batch.error !== null && { error_file_id: batch.error }),
    created_at: batch.created_at,
    ...batch.reached,
    request_counts: { total: batch.counts.total, completed: batch.counts.succeeded, failed: batch.counts.failed },
    metadata: batch.metadata,
  })
  const native = (batch: StoredBatch): Batch => ({
    id: batch.id,
    status: batch.status,
    kind: null,
    endpoint: batch.endpoint,
    counts: batch.counts,
    rate_per_second: batch.counts.succeeded > 0 ? 12.5 : null,
    eta_seconds: batch.status === 'in_progress' ? 90 : null,
    cost_usd: batch.counts.succeeded * 0.001,
    usage: { input_tokens: 0, output_tokens: 0, cache_read_tokens: 0, cache_write_tokens: 0, reasoning_tokens: 0 },
    cost_bound_usd: null,
    max_cost_usd: batch.max_cost_usd,
    model: null,
    created_at: new Date(batch.created_at * 1000).toISOString(),
    in_progress_at: null,
    finished_at: null,
    expires_at: new Date((batch.created_at + 86_400) * 1000).toISOString(),
    errors: batch.errors,
    metadata: batch.metadata,
    input_file_id: batch.input_file_id,
    urls: { self: '', results: '', events: '', cancel: '', retry: '' },
    output_file_id: batch.output,
    error_file_id: batch.error,
  })

  function create(body: Record<string, unknown>) {
    const { input_file_id, endpoint, completion_window, metadata, max_cost_usd, ...others } = body
    const file = files.get(String(input_file_id))
    if (file?.purpose !== 'batch') throw new Refusal(400, 'input_file_id names no file of purpose batch')
    if (endpoint !== '/v1/chat/completions') throw new Refusal(400, `No such endpoint: ${endpoint}`)
    if (completion_window !== '24h') throw new Refusal(400, 'completion_window must be 24h')
    if (Object.keys(others).length > 0) throw new Refusal(400, `not known: ${Object.keys(others)}`)
    const batch: StoredBatch = {
      id: newId('batch'),
      status: 'validating',
      created_at: Math.floor(Date.now() / 1000),
      reached: {},
      input_file_id: String(input_file_id),
      endpoint,
      metadata: metadata as Record<string, string>,
      max_cost_usd: typeof max_cost_usd === 'number' ? max_cost_usd : null,
      counts: { total: 0, succeeded: 0, failed: 0, cancelled: 0, expired: 0 },
      errors: null,
      output: null,
      error: null,
    }
    batches.push(batch)
    return openai(batch)
  }

  let stepping = true
  async function answer(request: IncomingMessage, path: string, query: URLSearchParams): Promise<unknown> {
    if (request.headers.authorization !== `Bearer ${KEY}`) throw new Refusal(401, 'No valid API key')
    const call = `${request.method} ${path.replace(/_\d+/, '_')}`
    const id = /(?:file|batch)_\d+/.exec(path)?.[0] ?? ''
    if (call === 'POST /v1/files') {
      const form = await parseForm(request)
      const bytes = form.files.get('file')
      if (!bytes || form.fields.get('purpose') !== 'batch') throw new Refusal(400, 'file and purpose are needed')
      const fileId = putFile(form.filename, bytes, 'batch')
      return {
        id: fileId,
        object: 'file',
        bytes: bytes.length,
        created_at: 1,
        filename: form.filename,
        purpose: 'batch',
        status: 'processed',
      }
    }
    if (call === 'POST /v1/batches') return create(JSON.parse(String(await readBody(request))))
    if (call === 'GET /v1/batches') {
      const [limit, after] = [Number(query.get('limit') ?? 20), query.get('after')]
      const newest = batches.toReversed()
      const from = after === null ? 0 : newest.findIndex(one => one.id === after) + 1
      const data = newest.slice(from, from + limit)
      const edges = { first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null }
      return { object: 'list', data: data.map(openai), ...edges, has_more: newest.length > from + limit }
    }
    if (call === 'GET /v1/batches/batch_') return openai(find(id))
    if (call === 'POST /v1/batches/batch_/cancel') {
      const batch = find(id)
      if (!NEXT[batch.status].includes('cancelling')) throw new Refusal(409, `The batch is ${batch.status}.`)
      move(batch, 'cancelling')
      return openai(batch)
    }
    if (call === 'GET /api/v1/batches/batch_') {
      const batch = find(id)
      const seen = structuredClone(native(batch))
      if (stepping && NEXT[batch.status].length > 0) step(batch)
      return seen
    }
    if (call === 'GET /v1/files/file_/content') {
      const file = files.get(id)
      if (!file) throw new Refusal(404, `No such file: ${id}`)
      return file.bytes
    }
    throw new Refusal(404, `No such route: ${call}`)
  }

  async function handle(request: IncomingMessage, response: ServerResponse) {
    const { pathname, searchParams } = new URL(request.url!, 'http://fake')
    const method = request.method!
    const name = `${method} ${pathname}`
    calls.push(name)
    changed()
    const fault = await faultFor({ method, path: pathname, nth: calls.filter(call => call === name).length })
    if (fault === 'cut') return void request.socket.destroy()
    if (fault !== null && typeof fault === 'object') {
      request.resume()
      return void response.writeHead(fault.status, fault.headers).end()
    }
    const result = await answer(request, pathname, searchParams).catch((error: unknown) => {
      if (!(error instanceof Refusal)) throw error
      request.resume()
      response.statusCode = error.status
      return { error: { message: error.message, type: 'invalid_request_error', param: null, code: 'refused' } }
    })
    changed()
    if (fault === 'lost') return void request.socket.destroy()
    const bytes = Buffer.isBuffer(result) ? result : Buffer.from(JSON.stringify(result))
    response.setHeader('content-length', bytes.length)
    if (fault !== 'half') return void response.end(bytes)
    response.write(bytes.subarray(0, bytes.length / 2), () => request.socket.destroy())
  }

  async function start() {
    server = createServer((request, response) => {
      handle(request, response).catch(error => response.destroy(error))
    })
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    port = (server.address() as AddressInfo).port
  }
  async function stop() {
    const closed = server && once(server, 'close')
    server?.close()
    server?.closeAllConnections()
    await closed
    server = null
  }
  await start()

  return {
    get url() {
      return `http://127.0.0.1:${port}`
    },
    files,
    batches,
    calls,
    start,
    stop,
    step,
    move,
    /** Whether every request for a batch advances it by a step. */
    set stepping(on: boolean) {
      stepping = on
    },
    set faultFor(next: FaultFor) {
      faultFor = next
    },
    until(ready: () => boolean): Promise<void> {
      if (ready()) return Promise.resolve()
      const { promise, resolve } = Promise.withResolvers<void>()
      waiters.add({ ready, resolve })
      return promise
    },
  }
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of request) pieces.push(piece as Buffer)
  return Buffer.concat(pieces)
}
