import type { TaskView } from '#shared/db/tasks/read.ts'
import { SluiceError } from '#shared/errors.ts'
import { readStream } from '#shared/events/stream.ts'
import { taskEvents } from '#shared/events/task-events.ts'
import type { StreamEvent } from '#shared/requests/answer.ts'
import type { ApiDeps } from '../deps.ts'
import { createTaskUpdates } from '../tasks/task-updates.ts'

/** Time for the end of a task to arrive after its deadline. */
const MARGIN_MS = 5000

/**
 * Follows a task that runs elsewhere until it has ended.
 * @param client `signal`: it has left. `cancels`: the task then ends, too. `waitMs`: for how long it waits; by default until after the
 * deadline of the task.
 * @throws SluiceError cancelled, if the client has left; deadline_exceeded; provider_failed, if the answer was begun and lost
 */
export async function followTask(
  deps: ApiDeps,
  id: string,
  client: {
    onEvent?: ((event: StreamEvent) => void) | undefined
    signal: AbortSignal
    deadlineMs: number
    waitMs?: number
    cancels?: boolean
  },
): Promise<TaskView> {
  const { onEvent, signal, deadlineMs, waitMs = deadlineMs + MARGIN_MS, cancels = true } = client
  const over = AbortSignal.any([signal, AbortSignal.timeout(waitMs)])
  const updates = createTaskUpdates(deps, id, over)
  let rest = ''
  let sent = false
  try {
    const source = taskEvents(
      {
        readState: updates.state,
        readView: () => deps.view(id),
        readEntries: after =>
          onEvent ? readStream(deps.redis, deps.config.REDIS_PREFIX, id, after).catch(() => []) : Promise.resolve([]),
        // The whole answer follows from the result.
        textOf: () => '',
        waitForChange: updates.next,
      },
      null,
    )
    for await (const event of source) {
      if (event.event === 'done') return event.data
      if (event.event === 'restart' && sent)
        throw new SluiceError('provider_failed', 'The process that ran the request died after the answer had begun.')
      if (event.event === 'restart') rest = ''
      if (event.event !== 'delta' || !onEvent) continue
      const lines = (rest + event.data.text).split('\n')
      rest = lines.pop()!
      for (const line of lines) {
        onEvent(JSON.parse(line) as StreamEvent)
        sent = true
      }
    }
  } finally {
    updates.stop()
  }
  if (!signal.aborted) throw new SluiceError('deadline_exceeded')
  if (cancels) await cancelTask(deps, id, 'The client closed the connection.')
  throw new SluiceError('cancelled', 'The client closed the connection.')
}

/** Ends a task unless it has ended. */
export const cancelTask = (deps: Pick<ApiDeps, 'finishTask'>, id: string, message: string) =>
  deps.finishTask({
    id,
    status: 'cancelled',
    from: 'live',
    epoch: null,
    workerId: null,
    error: { code: 'cancelled', message },
    settlement: null,
  })
