/**
 * How many tasks of a flow (one key and one priority) may wait in the queue at a time. The queue is first in, first out: a
 * new task waits behind everything in it. So it holds only enough to keep the workers busy until the next round.
 */

/** Work for this long, at the rate of the last round. */
const AHEAD_SECONDS = 0.4
/** Work for this many rounds, in case one is late. */
const AHEAD_ROUNDS = 2
/** The minimum, before a rate is known and for slow calls. */
export const MIN = 16
export const MAX = 2000
/** Delayed tasks (booked, backing off) delay no other task, but are bounded too. */
export const MAX_DELAYED = 256

/** The number of tasks that may wait, if workers took `consumed` within the last `seconds`. */
export const depthFor = (consumed: number, seconds: number): number =>
  Math.min(MAX, Math.max(MIN, Math.ceil(Math.max((consumed / seconds) * AHEAD_SECONDS, consumed * AHEAD_ROUNDS))))

export type FlowState = {
  weight: number
  /** In the queue and due. */
  waiting: number
  /** In the queue for later. */
  delayed: number
}

/**
 * Divides `depth` by weight. @returns the number of tasks that each flow may add: a flow below its share catches up, a flow
 * above it waits
 */
export function fairShares(flows: FlowState[], depth: number): number[] {
  const whole = flows.reduce((sum, flow) => sum + flow.weight, 0)
  return flows.map(({ weight, waiting, delayed }) => {
    const share = Math.max(1, Math.ceil((depth * weight) / whole))
    return Math.max(0, Math.min(share - waiting, share + MAX_DELAYED - waiting - delayed))
  })
}

/** One of each group in turn. Workers take tasks that are added together in this order. */
export function inTurns<T>(groups: T[][]): T[] {
  const turns: T[] = []
  const longest = groups.reduce((most, group) => Math.max(most, group.length), 0)
  for (let turn = 0; turn < longest; turn++) {
    for (const group of groups) if (turn < group.length) turns.push(group[turn]!)
  }
  return turns
}
