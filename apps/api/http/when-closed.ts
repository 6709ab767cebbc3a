import type { ServerResponse } from 'node:http'

/**
 * Calls `done` once, when the response was sent or its connection broke. Immediately if it already was: handlers also run for
 * clients that left while their key was read, and `close` is not emitted again.
 */
export function whenClosed(response: ServerResponse, done: () => void): void {
  if (response.closed) done()
  else response.once('close', done)
}
