import type { ProcessFace } from './lifecycle.ts'
import type { Metrics } from './metrics.ts'

/** What `npm start` and its processes tell each other over their IPC channels. A process without a parent has none. */

/** Why a worker process was replaced. Labels of a metric. */
export const REASONS = ['exited', 'frozen', 'not_consuming', 'memory'] as const
export type Reason = (typeof REASONS)[number]
/** To the API, which has metrics to show: how many were replaced since the start. */
export type FleetReport = { type: 'fleet'; replaced: Record<Reason, number> }

/** Every two seconds, from a worker: whoever is silent for long is frozen. */
export type Pulse = { type: 'pulse'; consuming: boolean; rssMb: number }
/** `retire`: take no more, finish the calls under way however long they are, and end. */
export type Order = { type: 'concurrency'; tasks: number } | { type: 'retire' }

const PULSE_MS = 2000

/** Sends pulses and follows orders. */
export function followParent(
  face: Pick<ProcessFace, 'on' | 'send' | 'connected'>,
  worker: { pulse(): Omit<Pulse, 'type'>; setConcurrency(tasks: number): void; retire(): void },
): void {
  if (!face.send) return
  setInterval(() => {
    if (face.connected) face.send?.({ type: 'pulse', ...worker.pulse() } satisfies Pulse)
  }, PULSE_MS).unref()
  face.on('message', message => {
    const order = message as Order
    if (order?.type === 'concurrency') worker.setConcurrency(order.tasks)
    if (order?.type === 'retire') worker.retire()
  })
}

/** Shows what `npm start` says of its workers. */
export function countReplaced(face: Pick<ProcessFace, 'on'>, { fleetReplaced }: Pick<Metrics, 'fleetReplaced'>): void {
  face.on('message', message => {
    const report = message as FleetReport
    if (report?.type !== 'fleet') return
    fleetReplaced.reset()
    for (const reason of REASONS) fleetReplaced.inc({ reason }, report.replaced[reason])
  })
}
