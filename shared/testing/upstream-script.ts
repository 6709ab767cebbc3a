import type { IncomingHttpHeaders, ServerResponse } from 'node:http'
import { constrainedText, formatOf } from './upstream-schema.ts'
import { vectorOf } from './upstream-wires/index.ts'
import type { Stop, Wire, WireAnswer, WireName } from './upstream-wires/wire.ts'

/** Scripts of the fake upstream, and their execution. See `upstream.ts`. */

/** How the upstream answers a call. Plain JSON, so that it can be sent to another process. All fields are optional. */
export type Script = {
  /** Only calls whose prompt matches; a string is the source of a RegExp. */
  when?: RegExp | string
  text?: string
  /** Vectors of an embeddings answer; default: one per text, with the requested dimensions or 8. */
  vectors?: unknown[]
  /** Chunks of a streamed text, or their number. */
  chunks?: string[] | number
  /** Reasoning before the text. */
  thinking?: string
  /** Tool calls after the text, which is then '' by default. `arguments`: an object. */
  toolCalls?: { id?: string; name: string; arguments: object }[]
  /** null: no usage is reported. Absent counts are estimated from the lengths. */
  usage?: Partial<NonNullable<WireAnswer['usage']>> | null
  stop?: Stop
  /** Model in the answer; default: the requested model. */
  model?: string
  delayMs?: number
  chunkDelayMs?: number
  /** Writes this many bytes at a time, even if that splits a character. */
  sliceBytes?: number
  /** Status of an HTTP error. Its body has the format of the provider, unless `body` is given. */
  status?: number
  headers?: Record<string, string>
  body?: unknown
  message?: string
  code?: string
  fault?: Fault
}

export type Fault =
  /** Sends nothing: no headers, or nothing after half of the answer. */
  | 'hang'
  | 'hang_midway'
  /** Sends bytes for ever, without an end. */
  | 'dribble'
  /** Closes the connection: before the headers, or after half of the answer. */
  | 'cut'
  | 'cut_midway'
  /** Ends the response properly, but too early. */
  | 'truncated'
  /** Body that is not JSON; an HTML page; JSON of another shape; an empty body. */
  | 'garbage'
  | 'html'
  | 'wrong_shape'
  | 'empty'
  /** An error with status 200: in the middle of a stream, or as the whole body. */
  | 'error_event'

export type Call = {
  provider: WireName
  path: string
  model: string
  /** All text of the request, system prompt first. */
  prompt: string
  streaming: boolean
  headers: IncomingHttpHeaders
  body: Record<string, unknown>
  startedAt: number
  /** Port of the client. Calls with the same port used the same connection. */
  connection: number | undefined
  /** The client disconnected before the end of the answer. */
  aborted: boolean
}

type Performance = {
  wire: Wire
  call: Call
  script: Script
  answer: WireAnswer
  response: ServerResponse
  gone: Promise<void>
  midway: () => Promise<void>
  /** Runs before the last bytes: once the client has them, it can make its next call. */
  leave?: () => void
}

/** Writes the answer of the script, or its error or fault. */
export async function perform({
  wire,
  call,
  script,
  answer,
  response,
  gone,
  midway,
  leave,
}: Performance): Promise<void> {
  const { fault, status = 200 } = script
  if (fault === 'hang') return gone
  if (fault === 'cut') return void response.destroy()
  if (script.body !== undefined || status >= 400) {
    const { message = `Error ${status}`, code } = script
    return json(response, status, script.body ?? wire.error(status, message, code), script.headers)
  }
  if (fault === 'html') return end(response, 'text/html', '<html>Welcome</html>')
  const type = call.streaming ? wire.streamType : 'application/json'
  if (fault === 'empty') return end(response, type, '')
  if (fault === 'garbage') return end(response, type, call.streaming ? wire.wrongPiece.replace('{', '{{') : '{{')
  if (fault === 'wrong_shape')
    return end(response, type, call.streaming ? wire.wrongPiece : JSON.stringify(wire.wrongShape))
  const { message = 'Overloaded', code } = script
  if (fault === 'error_event' && !call.streaming) return json(response, 200, wire.error(529, message, code))

  const parts: (string | Buffer)[] = call.streaming
    ? [...wire.head(answer), ...answer.chunks.map(chunk => wire.piece(chunk, answer)), ...wire.tail(answer)]
    : halves(JSON.stringify(wire.whole(answer)))
  const before = call.streaming ? wire.head(answer).length + Math.ceil(answer.chunks.length / 2) : 1
  response.writeHead(200, { 'content-type': type, ...script.headers })
  const write = async (part: string | Buffer) => {
    const bytes = Buffer.from(part)
    const size = script.sliceBytes ?? bytes.length
    for (let at = 0; at < bytes.length && !response.destroyed; at += size) {
      await flush(response, bytes.subarray(at, at + size))
    }
    if (script.chunkDelayMs) await pause(script.chunkDelayMs, gone)
  }
  for (const part of parts.slice(0, before)) await write(part)
  await Promise.race([midway(), gone])
  if (fault === 'hang_midway') return gone
  if (fault === 'cut_midway') return void response.destroy()
  if (fault === 'error_event') await write(wire.errorEvent(message, code))
  while (fault === 'dribble' && !response.destroyed) {
    await write(call.streaming ? wire.piece('.', answer) : ' ')
    await pause(5, gone)
  }
  if (!fault) {
    for (const part of parts.slice(before, -1)) await write(part)
    leave?.()
    for (const part of parts.slice(-1)) await write(part)
  }
  response.end()
}

export function toAnswer(call: Call, script: Script, defaultChunks = 3): WireAnswer {
  const { usage = {}, stop = 'end', chunks = defaultChunks } = script
  const schema = formatOf(call.body)
  const { thinking, toolCalls = [] } = script
  const written = script.text ?? (toolCalls.length > 0 ? '' : 'Hello from upstream.')
  const text = schema && toolCalls.length === 0 ? constrainedText(written, schema) : written
  const { input = [], dimensions = 8 } = call.body as { input?: string | string[]; dimensions?: number }
  return {
    text,
    vectors: script.vectors ?? [input].flat().map(one => vectorOf(one, dimensions)),
    chunks: Array.isArray(chunks) ? chunks : cut(text, chunks),
    ...(thinking !== undefined && { thinking }),
    toolCalls: toolCalls.map(({ id, name, arguments: given }, n) => ({
      id: id ?? `call_${n + 1}`,
      name,
      arguments: JSON.stringify(given),
    })),
    choices: typeof call.body.n === 'number' ? call.body.n : 1,
    stop,
    model: script.model ?? call.model,
    usageInStream: (call.body.stream_options as { include_usage?: boolean } | undefined)?.include_usage === true,
    usage: usage && {
      ...madeUp(call.prompt, text),
      cacheReadTokens: 0,
      cacheWriteTokens: 0,
      ...usage,
    },
  }
}

/** Tokens that a call counts against the limit of the upstream: the reported usage, or the estimate if none is reported. */
export function costOf(call: Call, script: Script, answer: WireAnswer): number {
  if ((script.status ?? 200) >= 400) return 0
  const { inputTokens, outputTokens } = answer.usage ?? madeUp(call.prompt, answer.text)
  return inputTokens + outputTokens
}

const madeUp = (prompt: string, text: string) => ({
  inputTokens: Math.ceil(prompt.length / 4),
  outputTokens: Math.ceil(text.length / 4),
})

/** Splits a text between characters into `pieces` of about the same length. */
function cut(text: string, pieces: number): string[] {
  const characters = [...text]
  const size = Math.max(1, Math.ceil(characters.length / pieces))
  const cuts: string[] = []
  for (let at = 0; at < characters.length; at += size) cuts.push(characters.slice(at, at + size).join(''))
  return cuts
}

function halves(text: string): Buffer[] {
  const bytes = Buffer.from(text)
  return [bytes.subarray(0, bytes.length / 2), bytes.subarray(bytes.length / 2)]
}

function end(response: ServerResponse, type: string, body: string) {
  response.writeHead(200, { 'content-type': type }).end(body)
}

export function json(response: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}) {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(text)
}

/** Waits until the bytes are written, so that the client receives them as one chunk. */
const flush = (response: ServerResponse, bytes: Uint8Array) =>
  new Promise<void>(resolve => response.write(bytes, () => setImmediate(resolve)))

export async function pause(ms: number, gone: Promise<void>) {
  const { promise, resolve } = Promise.withResolvers<void>()
  const timer = setTimeout(resolve, ms)
  await Promise.race([promise, gone])
  clearTimeout(timer)
}
