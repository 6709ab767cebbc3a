import type { Metrics } from '#shared/metrics/metrics.ts'
import type { ProcessFace } from './lifecycle.ts'

/** Messages between `npm start` and its processes, over their IPC channels. */

/** Why `npm start` restarted a worker process. Labels of a metric. */
export const REASONS = ['exited', 'frozen', 'not_consuming'] as const
export type Reason = (typeof REASONS)[number]
/** To the API, which has the metrics. */
export type Replaced = { type: 'replaced'; reason: Reason }
/** To a worker: take no more jobs, finish the running calls however long they take, and exit. */
export type Retire = { type: 'retire' }

export function retireOnOrder(face: Pick<ProcessFace, 'on'>, retire: () => void): void {
  face.on('message', message => {
    if ((message as Retire)?.type === 'retire') retire()
  })
}

/** Counts the workers that `npm start` restarts. */
export function countReplaced(
  face: Pick<ProcessFace, 'on' | 'send'>,
  { fleetReplaced }: Pick<Metrics, 'fleetReplaced'>,
): void {
  if (!face.send) return
  for (const reason of REASONS) fleetReplaced.inc({ reason }, 0)
  face.on('message', message => {
    const report = message as Replaced
    if (report?.type === 'replaced') fleetReplaced.inc({ reason: report.reason })
  })
}
