import type { OutgoingHttpHeaders } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { dropWhenStalled } from '../http/backpressure.ts'

const KEEP_ALIVE_MS = 15_000
/** Bytes that may wait for one client. The call cannot be slowed down, so a client that reads less than the model writes is cut off. */
const MAX_UNSENT = 4 * 1024 * 1024

export type EventOutput = {
  /** Whether the response has begun: a failure can no longer be a status. */
  readonly begun: boolean
  /** Begins the response with the first frame. Frames for a client that has left are dropped. */
  write(frames: string): void
  end(): void
}

/** The Server-Sent Events of a compatible surface. Begins with the first frame, so that an earlier failure is a plain error. */
export function createEventOutput(
  request: FastifyRequest,
  reply: FastifyReply,
  headers: () => Record<string, string>,
): EventOutput {
  const response = reply.raw
  let keepAlive: NodeJS.Timeout | undefined
  let begun = false

  function begin(): void {
    begun = true
    reply.hijack()
    dropWhenStalled(response)
    response.writeHead(200, {
      // A hijacked reply does not send them itself.
      ...(reply.getHeaders() as OutgoingHttpHeaders),
      ...(reply.hasHeader('openai-version') && { 'openai-processing-ms': Math.round(reply.elapsedTime) }),
      ...headers(),
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
      'x-request-id': request.id,
    })
    keepAlive = setInterval(() => response.write(': keep-alive\n\n'), KEEP_ALIVE_MS)
    response.once('close', () => clearInterval(keepAlive))
  }

  return {
    get begun() {
      return begun
    },
    write(frames) {
      if (frames === '' || response.destroyed) return
      if (!begun) begin()
      response.write(frames)
      if (response.writableLength > MAX_UNSENT) response.destroy()
    },
    end() {
      clearInterval(keepAlive)
      response.end()
    },
  }
}
