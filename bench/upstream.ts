import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

/**
 * An upstream that answers immediately in Anthropic's wire format, so that a bench measures only Sluice.
 * `LIMIT_RPM`: the upstream refuses (429) calls beyond this number in any 60 s. `GET /traffic` returns statistics.
 * After `POST /hang` calls get no answer until `POST /recover`.
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
/** With `WIRE=openai`: the same answer in OpenAI's format. */
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
/** Arrival times of accepted calls, ms. Recorded only with a limit. */
const arrivals: number[] = []
let oldest = 0
let calls = 0
let refused = 0
let hanging = false

/** Whether a new call exceeds the limit. A call within the limit is counted. */
function exceedsLimit(): boolean {
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
    if (exceedsLimit()) {
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
