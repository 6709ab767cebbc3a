import type { LoggedCall } from './upstream.ts'

/** What the upstream had to bear, against the limits. */

const MINUTE_MS = 60_000
/** A client that goes away is noticed a little later, when another call may have come already. */
const NOTICED_MS = 25

/** The most that `weigh` comes to in any 60 s of arrivals. */
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

/** The most calls that were open at once, those left out whose client had gone. */
export function mostAtOnce(calls: LoggedCall[]): number {
  const edges = calls.flatMap(call => {
    const end = call.endedAt === null ? Number.POSITIVE_INFINITY : call.endedAt
    const until = call.end === 'dropped' ? Math.max(call.at, end - NOTICED_MS) : end
    return [
      { at: call.at, change: 1 },
      { at: until, change: -1 },
    ]
  })
  // What ends at the moment at which another begins has ended.
  edges.sort((a, b) => a.at - b.at || a.change - b.change)
  let open = 0
  let most = 0
  for (const { change } of edges) {
    open += change
    most = Math.max(most, open)
  }
  return most
}
