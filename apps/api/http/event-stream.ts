import type { FastifyReply, FastifyRequest } from 'fastify'
import { drained, dropWhenStalled } from './backpressure.ts'

const KEEP_ALIVE_MS = 15_000

export type EventStream = {
  /** Aborted when the client is gone or the server stops. */
  over: AbortSignal
  /** Writes a frame and waits until the client has taken it. @returns false: the stream is over */
  send(frame: string): Promise<boolean>
  end(): void
}

/** Answers a request with Server-Sent Events. Fastify does not send the reply afterwards: call `end`. */
export function startEventStream(request: FastifyRequest, reply: FastifyReply, draining: AbortSignal): EventStream {
  reply.hijack()
  const response = reply.raw
  dropWhenStalled(response)
  response.writeHead(200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache, no-transform',
    'x-accel-buffering': 'no',
    'x-request-id': request.id,
  })
  const keepAlive = setInterval(() => response.write(': keep-alive\n\n'), KEEP_ALIVE_MS)
  const over = new AbortController()
  const abort = () => over.abort()
  response.once('close', abort)
  draining.addEventListener('abort', abort)
  if (draining.aborted || response.destroyed) abort()
  return {
    over: over.signal,
    async send(frame) {
      return (response.write(frame) || (await drained(response, draining))) && !response.destroyed
    },
    end() {
      clearInterval(keepAlive)
      response.off('close', abort)
      draining.removeEventListener('abort', abort)
      response.end()
    },
  }
}
