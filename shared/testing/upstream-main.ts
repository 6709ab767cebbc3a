import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { parseArgs } from 'node:util'
import { createUpstream, readBody, type Script } from './upstream.ts'

/**
 * The fake upstream as a process, for benches and for tests of processes.
 * `node shared/testing/upstream-main.ts [--port 0]` prints `{"port":…}` once it listens on 127.0.0.1.
 *
 * GET  /__calls    {count, markers}: all calls so far, and those by the `[[name]]` in their prompt
 * POST /__script   {reset?: true, default?: Script | null, script?: Script[], rules?: Script[] with `when`}
 */

type Orders = { reset?: true; default?: Script | null; script?: Script[]; rules?: (Script & { when: string })[] }

const { values } = parseArgs({ options: { port: { type: 'string', default: '0' } } })
const upstream = createUpstream({ record: false })

/** One answer for everybody: with nothing scripted, a bench measures Sluice and not its upstream. */
const ANSWER = Buffer.from(
  JSON.stringify({
    id: 'msg_upstream',
    type: 'message',
    role: 'assistant',
    model: 'upstream',
    content: [{ type: 'text', text: 'Hello from upstream.' }],
    stop_reason: 'end_turn',
    stop_sequence: null,
    usage: { input_tokens: 20, output_tokens: 5, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 },
  }),
)
const HEADERS = { 'content-type': 'application/json', 'content-length': ANSWER.length }

async function handle(request: IncomingMessage, response: ServerResponse) {
  if (request.url === '/v1/messages' && upstream.plain()) {
    const body = await readBody(request)
    if (body.includes('"stream":true')) return upstream.handle(request, response, body)
    upstream.arrive(body.includes('[[') ? String(body) : '')
    return response.writeHead(200, HEADERS).end(ANSWER)
  }
  if (request.url === '/__calls') return reply(response, { count: upstream.count(), markers: upstream.markers() })
  if (request.url === '/__script') {
    const orders = JSON.parse(String(await readBody(request))) as Orders
    if (orders.reset) upstream.reset()
    if (orders.default !== undefined) upstream.default(orders.default)
    upstream.script(...(orders.script ?? []))
    for (const rule of orders.rules ?? []) upstream.rule(rule.when, rule)
    return reply(response, {})
  }
  return upstream.handle(request, response)
}

const reply = (response: ServerResponse, body: unknown) =>
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body))

const server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
  handle(request, response).catch(error => {
    if (!response.headersSent) response.writeHead(500)
    response.end(String(error))
  })
})
server.listen(Number(values.port), '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`)
})
process.once('SIGTERM', () => process.exit(0))
