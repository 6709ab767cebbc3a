import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export type Received = { path: string; headers: IncomingHttpHeaders; body: string }
export type Receiver = Awaited<ReturnType<typeof startReceiver>>

/** A webhook receiver. It answers 204 unless a test sets another answer with `answers`; a test may also leave requests open. */
export async function startReceiver() {
  const received: Received[] = []
  let wake = Promise.withResolvers<void>()
  let answer: (response: ServerResponse, one: Received) => void = response => response.writeHead(204).end()
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const one = { path: request.url!, headers: request.headers, body: Buffer.concat(chunks).toString() }
    received.push(one)
    answer(response, one)
    wake.resolve()
    wake = Promise.withResolvers()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    received,
    answers: (how: typeof answer) => {
      answer = how
    },
    /** Resolves with the requests that fit, once there are `count`. */
    async until(count: number, fits: (one: Received) => boolean = () => true): Promise<Received[]> {
      for (;;) {
        const found = received.filter(fits)
        if (found.length >= count) return found
        await wake.promise
      }
    },
    close: () => {
      server.closeAllConnections()
      return new Promise(resolve => server.close(resolve))
    },
  }
}
