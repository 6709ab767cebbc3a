/**
 * How much of a flow (the tasks of one key and one priority) may wait in the queue at a time. The queue is first in, first
 * out, so what waits there is what a newcomer waits behind: as little as keeps the workers busy until the next look.
 */

/** Work for this long, at the pace of the last look. */
const AHEAD_SECONDS = 0.4
/** Work for this many looks, should they come late. */
const AHEAD_LOOKS = 2
/** A start, before any pace is known, and what slow calls may always have waiting. */
export const LEAST = 16
export const MOST = 2000
/** Tasks that the queue holds for later (booked, backing off) do not stand in anybody's way, but there must be an end. */
export const MOST_DELAYED = 256

/** How many tasks may wait, when `consumed` were taken within the last `seconds`. */
export const depthFor = (consumed: number, seconds: number): number =>
  Math.min(MOST, Math.max(LEAST, Math.ceil(Math.max((consumed / seconds) * AHEAD_SECONDS, consumed * AHEAD_LOOKS))))

export type FlowState = {
  weight: number
  /** In the queue and due. */
  waiting: number
  /** In the queue for later. */
  delayed: number
}

/**
 * Shares `depth` out by weight. @returns for each flow how many more tasks it may hand over; a flow that is below its
 * share catches up, one that is above waits until it has come down
 */
export function rooms(flows: FlowState[], depth: number): number[] {
  const whole = flows.reduce((sum, flow) => sum + flow.weight, 0)
  return flows.map(({ weight, waiting, delayed }) => {
    const share = Math.max(1, Math.ceil((depth * weight) / whole))
    return Math.max(0, Math.min(share - waiting, share + MOST_DELAYED - waiting - delayed))
  })
}

/** One of each flow in turn: what is handed over together is also taken in this order. */
export function inTurns<T>(groups: T[][]): T[] {
  const turns: T[] = []
  const longest = groups.reduce((most, group) => Math.max(most, group.length), 0)
  for (let turn = 0; turn < longest; turn++) {
    for (const group of groups) if (turn < group.length) turns.push(group[turn]!)
  }
  return turns
}
