import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Metrics } from '#shared/metrics.ts'

export type Health = { ok: boolean; parts: Record<string, string> }

/**
 * A worker's `/metrics`, `/health/live` and `/health/ready`. A taken port is no reason not to work: any free one is used.
 * @returns the server and the port that it got
 */
export async function startStatusServer(options: {
  host: string
  port: number
  metrics: Metrics
  /** Before each look at the metrics. */
  refresh: () => void
  health: () => Promise<Health>
  /** Queues whose jobs it has stopped taking: a reason to be restarted. */
  starved: () => string[]
}): Promise<{ server: Server; port: number }> {
  const server = createServer(async (request, response) => {
    const path = request.url?.split('?')[0]
    const answer = (status: number, type: string, body: string) =>
      response.writeHead(status, { 'content-type': type }).end(body)
    try {
      if (path === '/metrics') {
        options.refresh()
        answer(200, options.metrics.registry.contentType, await options.metrics.registry.metrics())
      } else if (path === '/health/live') {
        const starved = options.starved()
        if (starved.length === 0) answer(200, 'application/json', '{"status":"ok"}')
        else answer(503, 'application/json', JSON.stringify({ status: 'not consuming', queues: starved }))
      } else if (path === '/health/ready') {
        const health = await options.health()
        answer(
          health.ok ? 200 : 503,
          'application/json',
          JSON.stringify({ status: health.ok ? 'ok' : 'unavailable', parts: health.parts }),
        )
      } else {
        answer(404, 'text/plain', 'not found\n')
      }
    } catch {
      answer(500, 'text/plain', 'failed\n')
    }
  })
  const listen = (port: number) =>
    new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(port, options.host, () => {
        server.off('error', reject)
        resolve()
      })
    })
  await listen(options.port).catch(() => listen(0))
  return { server, port: (server.address() as AddressInfo).port }
}
