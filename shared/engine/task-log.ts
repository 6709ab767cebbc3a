import type { RunnableTask } from '#shared/db/tasks/load.ts'
import { toWire } from '#shared/ids.ts'
import { traceIds } from '#shared/tracing/tracing.ts'

/** The ids that a log line about a task carries. */
export const logIds = ({ id, traceparent }: RunnableTask) => ({ task_id: toWire('task', id), ...traceIds(traceparent) })
