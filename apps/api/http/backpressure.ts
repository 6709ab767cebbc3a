import type { ServerResponse } from 'node:http'

/** Longer than any pause between two writes: a connection without traffic counts as stalled. */
const STALLED_MS = 30_000

/**
 * Destroys the connection of a client that reads nothing for `stalledMs`; TCP keeps such a connection open forever. A slow reader
 * is not affected: Node restarts a socket's timeout when a write makes progress, and so may detect a stall one timeout late.
 */
export function dropWhenStalled(response: ServerResponse, stalledMs = STALLED_MS): void {
  response.setTimeout(stalledMs, () => response.destroy())
}

/**
 * Await it after `write` returned false.
 * @returns true: the buffer was sent; false: the client left or the server stops, and nothing more may be written
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
