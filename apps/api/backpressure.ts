import type { ServerResponse } from 'node:http'

/** Longer than any pause between two writes: a connection without traffic counts as stalled. */
const STALLED_MS = 30_000

/**
 * Destroys the connection of a client that stays connected and takes nothing of what was written to it for so long,
 * which TCP alone never does. One that reads slowly is left alone: Node starts a socket's time-out again when a write
 * under way has made progress, and so may notice the standstill one time-out late.
 */
export function dropWhenStalled(response: ServerResponse, stalledMs = STALLED_MS): void {
  response.setTimeout(stalledMs, () => response.destroy())
}

/**
 * To be awaited when `write` has returned false.
 * @returns true: the client has taken what was written; false: it has gone or the server stops, and no more is to be written
 */
export async function drained(response: ServerResponse, draining: AbortSignal): Promise<boolean> {
  if (response.destroyed || draining.aborted) return false
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const onDrain = () => resolve(true)
  const onEnd = () => resolve(false)
  response.once('drain', onDrain)
  response.once('close', onEnd)
  draining.addEventListener('abort', onEnd)
  try {
    return await promise
  } finally {
    response.off('drain', onDrain)
    response.off('close', onEnd)
    draining.removeEventListener('abort', onEnd)
  }
}
