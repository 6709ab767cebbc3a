import type { LoggedCall } from './upstream.ts'

/** The load on the upstream, compared with the limits. */

const MINUTE_MS = 60_000
/** Delay with which the upstream detects a disconnected client. Another call may have arrived by then. */
const NOTICED_MS = 25

/** The largest sum of `weigh` over the calls that arrived in any 60 s. */
export function mostInAMinute(calls: LoggedCall[], weigh: (call: LoggedCall) => number): number {
  const sorted = calls.toSorted((a, b) => a.at - b.at)
  let from = 0
  let sum = 0
  let most = 0
  for (const call of sorted) {
    sum += weigh(call)
    while (sorted[from]!.at <= call.at - MINUTE_MS) sum -= weigh(sorted[from++]!)
    most = Math.max(most, sum)
  }
  return most
}

/** The largest number of open calls at one time, without calls whose client has disconnected. */
export function mostAtOnce(calls: LoggedCall[]): number {
  const edges = calls.flatMap(call => {
    const end = call.endedAt === null ? Number.POSITIVE_INFINITY : call.endedAt
    const until = call.end === 'dropped' ? Math.max(call.at, end - NOTICED_MS) : end
    return [
      { at: call.at, change: 1 },
      { at: until, change: -1 },
    ]
  })
  // A call that ends at the moment at which another begins counts as ended.
  edges.sort((a, b) => a.at - b.at || a.change - b.change)
  let open = 0
  let most = 0
  for (const { change } of edges) {
    open += change
    most = Math.max(most, open)
  }
  return most
}
