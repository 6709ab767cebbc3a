import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

/** An upstream that answers at once, in Anthropic's wire format: what a bench then measures is Sluice. */
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
const headers = { 'content-type': 'application/json', 'content-length': ANSWER.length }

const server = createServer((request, response) => {
  request.resume()
  request.on('end', () => response.writeHead(200, headers).end(ANSWER))
})
server.keepAliveTimeout = 60_000
server.listen(0, '127.0.0.1', () => process.send?.({ type: 'ready', port: (server.address() as AddressInfo).port }))
process.on('disconnect', () => process.exit(0))
