import type { ProcessFace } from '#shared/lifecycle.ts'

/** What `npm start` and a worker tell each other over their IPC channel. A worker without a parent has none. */

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
