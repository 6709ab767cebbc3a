/**
 * The queues. A job kind names its own. `moderate` is for tasks that cannot wait behind others; `batch` carries the chunks
 * of batches.
 */
export const QUEUES = ['default', 'moderate', 'batch'] as const
export type QueueName = (typeof QUEUES)[number]

export const PRIORITIES = ['interactive', 'normal', 'low'] as const
export type Priority = (typeof PRIORITIES)[number]

/** BullMQ runs 0 first, from a plain list; higher numbers are in a sorted set. */
export const BULLMQ_PRIORITY: Record<Priority, number> = { interactive: 0, normal: 10, low: 20 }

/** A hash tag per queue, so that a cluster can spread them. */
export const queuePrefix = (prefix: string, queue: string): string => `{${prefix}:${queue}}`

/** `<uuid>-<epoch>`: never only digits, no colon, and new for every dispatch, because BullMQ ignores known ids. */
export const jobId = (task: { id: string; epoch: number }): string => `${task.id}-${task.epoch}`

export function parseJobId(jobId: string): { id: string; epoch: number } | null {
  const match = /^([0-9a-f-]{36})-(\d+)$/.exec(jobId)
  return match ? { id: match[1]!, epoch: Number(match[2]) } : null
}
