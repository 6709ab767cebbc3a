import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

/**
 * An upstream that answers at once, in Anthropic's wire format: what a bench then measures is Sluice.
 * `LIMIT_RPM`: it refuses (429) what exceeds so many calls in any 60 s. `GET /traffic` tells what it has seen; after
 * `POST /hang` it answers nobody until `POST /recover`.
 */
const ANSWER = JSON.stringify({
  id: 'msg_bench',
  type: 'message',
  role: 'assistant',
  model: 'claude-haiku-5-5',
  content: [{ type: 'text', text: 'Three titles: one, two, three.' }],
  stop_reason: 'end_turn',
  stop_sequence: null,
  usage: { input_tokens: 20, output_tokens: 8, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 },
})
/** `WIRE=openai`: the same in OpenAI's. */
const OPENAI = JSON.stringify({
  id: 'chatcmpl-bench',
  object: 'chat.completion',
  created: 0,
  model: 'gpt-5.4-mini',
  choices: [
    { index: 0, message: { role: 'assistant', content: 'Three titles: one, two, three.' }, finish_reason: 'stop' },
  ],
  usage: { prompt_tokens: 20, completion_tokens: 8, total_tokens: 28 },
})
const answer = process.env.WIRE === 'openai' ? OPENAI : ANSWER
const headers = { 'content-type': 'application/json', 'content-length': answer.length }
const REFUSAL = JSON.stringify({ type: 'error', error: { type: 'rate_limit_error', message: 'too many' } })

const limit = Number(process.env.LIMIT_RPM ?? Number.POSITIVE_INFINITY)
/** When the calls that were let through arrived, ms; only kept under a limit. */
const arrivals: number[] = []
let oldest = 0
let calls = 0
let refused = 0
let hanging = false

/** Whether one more call would be too many. */
function tooMany(): boolean {
  if (limit === Number.POSITIVE_INFINITY) return false
  const now = performance.now()
  while (oldest < arrivals.length && arrivals[oldest]! <= now - 60_000) oldest++
  if (arrivals.length - oldest >= limit) return true
  arrivals.push(now)
  return false
}

const server = createServer((request, response) => {
  request.resume()
  request.on('end', () => {
    if (request.url === '/traffic') {
      response.end(JSON.stringify({ calls, refused, arrivals }))
      return
    }
    if (request.url === '/hang' || request.url === '/recover') {
      hanging = request.url === '/hang'
      response.end()
      return
    }
    calls++
    if (tooMany()) {
      refused++
      response.writeHead(429, { 'content-type': 'application/json', 'retry-after': '1' }).end(REFUSAL)
    } else if (!hanging) {
      response.writeHead(200, headers).end(answer)
    }
  })
})
server.keepAliveTimeout = 60_000
server.listen(0, '127.0.0.1', () => process.send?.({ type: 'ready', port: (server.address() as AddressInfo).port }))
process.on('disconnect', () => process.exit(0))
