import type { TaskState, TaskView } from '#shared/db/tasks/read.ts'
import { isTerminal } from '#shared/db/tasks/row.ts'
import type { StreamEntry } from './stream.ts'

/**
 * The events of one task. Ids are attempt x 10^6 + n: they grow, so that a client can resume. n counts the text entries of
 * the attempt; the highest numbers are for the events that follow them.
 */
const PER_ATTEMPT = 1_000_000
const QUEUED_AGAIN = PER_ATTEMPT - 3
const WHOLE_TEXT = PER_ATTEMPT - 2
const DONE = PER_ATTEMPT - 1

/** The id of the last event of a task that has ended after `attempts` attempts. */
export const doneIdOf = (attempts: number) => attempts * PER_ATTEMPT + DONE

export type TaskEvent =
  | { event: 'status'; id: number; data: { status: string; attempt: number } }
  | { event: 'delta'; id: number; data: { text: string } }
  /** Everything received as `delta` so far is void. */
  | { event: 'restart'; id: null; data: { attempt: number } }
  | { event: 'done'; id: number; data: TaskView }

export type TaskEventDeps = {
  readState(): Promise<TaskState | null>
  readView(): Promise<TaskView | null>
  /** Entries after the given one; empty while Redis is unavailable. */
  readEntries(after: { attempt: number; n: number }): Promise<StreamEntry[]>
  /** The whole text of a result. */
  textOf(view: TaskView): string
  /** Resolves when something may have changed, after a second at the latest; false: stop. */
  waitForChange(): Promise<boolean>
}

/**
 * The events of a task from `lastEventId` on (null: from the beginning) until it is done.
 * Postgres is authoritative; the stream in Redis only brings the text earlier.
 */
export async function* taskEvents(deps: TaskEventDeps, lastEventId: number | null): AsyncGenerator<TaskEvent> {
  const last = lastEventId ?? -1
  /** The newest attempt that the client has seen, and its last text entry. */
  let attempt = Math.max(0, Math.floor(last / PER_ATTEMPT))
  let n = last < 0 ? -1 : last % PER_ATTEMPT
  /** Whether the client holds text that a restart would void. */
  let holdsText = attempt > 0 && n > 0
  /** Whether the text of `attempt` has reached its end mark without a gap. */
  let complete = false
  let gap = false
  let status = ''

  function* begin(next: number): Generator<TaskEvent> {
    if (holdsText) yield { event: 'restart', id: null, data: { attempt: next } }
    attempt = next
    n = 0
    holdsText = complete = gap = false
    status = 'running'
    yield { event: 'status', id: next * PER_ATTEMPT, data: { status, attempt: next } }
  }

  function* apply(entry: StreamEntry): Generator<TaskEvent> {
    if (entry.attempt > attempt) yield* begin(entry.attempt)
    if (entry.attempt < attempt || entry.n <= n || n >= QUEUED_AGAIN || entry.n >= QUEUED_AGAIN) return
    if (entry.type === 'w') {
      if (holdsText) yield { event: 'restart', id: null, data: { attempt } }
      gap = false
    } else if (entry.n !== n + 1) {
      gap = true
    }
    n = entry.n
    if (entry.type === 'e') complete = !gap
    else if (!gap && entry.type !== 'b') {
      holdsText = true
      yield { event: 'delta', id: attempt * PER_ATTEMPT + n, data: { text: entry.text } }
    }
  }

  do {
    const state = await deps.readState()
    if (!state) return
    for (const entry of await deps.readEntries({ attempt, n: Math.max(0, n) })) yield* apply(entry)

    if (isTerminal(state.status)) {
      if (last >= doneIdOf(state.attempts)) return
      const view = await deps.readView()
      if (!view) return
      const wanted =
        view.stream && view.status === 'succeeded' && !(complete && attempt === view.attempts && view.source === 'ai')
      if (wanted && !(attempt === view.attempts && n === WHOLE_TEXT)) {
        if (holdsText) yield { event: 'restart', id: null, data: { attempt: view.attempts } }
        yield { event: 'delta', id: view.attempts * PER_ATTEMPT + WHOLE_TEXT, data: { text: deps.textOf(view) } }
      }
      yield { event: 'done', id: doneIdOf(view.attempts), data: view }
      return
    }
    if (state.status === 'running' && state.attempts > attempt) yield* begin(state.attempts)
    // Ignore a state that is older than the stream.
    if (state.status === 'queued' && status !== 'queued' && state.attempts >= attempt) {
      status = 'queued'
      const id = state.attempts === 0 ? 0 : state.attempts * PER_ATTEMPT + QUEUED_AGAIN
      if (id > last) yield { event: 'status', id, data: { status, attempt: state.attempts } }
    }
  } while (await deps.waitForChange())
}
