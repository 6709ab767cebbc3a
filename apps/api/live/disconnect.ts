import type { ServerResponse } from 'node:http'
import { whenClosed } from '../http/when-closed.ts'

/**
 * How long a call continues after its client left before the answer began: the SDKs close a connection when they time out, and ask
 * again within seconds. The repeated request joins the call.
 */
export const GRACE_MS = 10_000

export type Disconnect = {
  /** Aborts when the call should stop because no client waits for it. */
  signal: AbortSignal
  /** The client has left. */
  readonly left: boolean
  /** Another request waits for the same task. */
  join(): () => void
  done(): void
}

/**
 * Watches the client of a live request. A client that leaves after the answer began stops the call at once; before that, after
 * `GRACE_MS`, unless a repeated request has joined.
 * @param finish the call continues whatever the client does
 */
export function watchDisconnect(response: ServerResponse, { finish }: { finish: boolean }): Disconnect {
  const controller = new AbortController()
  let left = false
  let joined = 0
  let timer: NodeJS.Timeout | undefined
  const stop = () => {
    if (joined === 0) controller.abort()
  }
  const leave = () => {
    left = true
    if (finish) return
    if (response.headersSent) stop()
    else timer = setTimeout(stop, GRACE_MS)
  }
  let watching = true
  whenClosed(response, () => {
    if (watching) leave()
  })
  return {
    signal: controller.signal,
    get left() {
      return left
    },
    join() {
      joined++
      clearTimeout(timer)
      return () => {
        joined--
        if (left && !finish) stop()
      }
    },
    done() {
      watching = false
      clearTimeout(timer)
    },
  }
}
