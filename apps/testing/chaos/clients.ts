import { setTimeout as delay } from 'node:timers/promises'
import type { KeyName, Plan, TaskPlan } from './plan.ts'
import { createRandom, type Random } from './random.ts'

/** A terminal state as a client saw it. */
export type Seen = { status: string; source: string | null; finishedAt: string; result: string }

/** The record of a client about its task. */
export type Note = {
  plan: TaskPlan
  /** null: the client got no response with an id. */
  taskId: string | null
  /** The last HTTP status; null: no answer. */
  status: number | null
  /** Requests until it was accepted. */
  tries: number
  seen: Seen | null
  /** A terminal state that differs from the first one: must never happen. */
  changed: Seen | null
}

// biome-ignore lint/suspicious/noExplicitAny: JSON of any route.
type Body = any
type Answer = { status: number; retryAfterMs: number; body: Body }

const REQUEST_MS = 10_000
/** Upper bound of a Retry-After that a client obeys. */
const MAX_WAIT_MS = 1000
const CONCURRENCY = 64
const TERMINAL = ['succeeded', 'failed', 'cancelled', 'expired']

/** Sends one request. @returns null: no response, or a response that is not JSON */
export async function ask(url: string, key: string, o: { body?: unknown; idempotencyKey?: string; method?: string }) {
  try {
    const response = await fetch(url, {
      method: o.method ?? (o.body === undefined ? 'GET' : 'POST'),
      headers: {
        authorization: `Bearer ${key}`,
        ...(o.body !== undefined && { 'content-type': 'application/json' }),
        ...(o.idempotencyKey && { 'idempotency-key': o.idempotencyKey }),
      },
      ...(o.body !== undefined && { body: JSON.stringify(o.body) }),
      signal: AbortSignal.timeout(REQUEST_MS),
    })
    const text = await response.text()
    const retryAfterMs = Number(response.headers.get('retry-after') ?? 0) * 1000
    return { status: response.status, retryAfterMs, body: JSON.parse(text) } satisfies Answer
  } catch {
    return null
  }
}

/**
 * Submits every task of the plan at its time. A client without a response, or with a retryable error, repeats the request
 * with the same Idempotency-Key at any API. Some clients wait for the end of their task, some cancel it.
 */
export async function runClients(
  plan: Plan,
  apis: string[],
  keys: Record<KeyName, string>,
  signal: AbortSignal,
): Promise<Note[]> {
  const begin = performance.now()
  const elapsed = () => performance.now() - begin
  const submits = semaphore(CONCURRENCY)
  const waits = semaphore(CONCURRENCY)

  async function runOne(task: TaskPlan): Promise<Note> {
    const random = createRandom(plan.seed, 'client', task.index)
    const note: Note = { plan: task, taskId: null, status: null, tries: 0, seen: null, changed: null }
    await delay(task.atMs, undefined, { signal }).catch(() => {})
    await submits.acquire()
    try {
      await submit(note, random)
    } finally {
      submits.release()
    }
    if (note.taskId === null) return note
    if (task.cancelAfterMs !== null) {
      await delay(task.cancelAfterMs, undefined, { signal }).catch(() => {})
      await cancel(note, random)
    }
    if (!task.watched) return note
    await waits.acquire()
    try {
      await watch(note, random)
    } finally {
      waits.release()
    }
    return note
  }

  async function submit(note: Note, random: Random): Promise<void> {
    const { index, marker, key, options, deadlineSeconds } = note.plan
    // Computed once: a repeated request must have the same body.
    const left = Math.max(5, Math.floor((plan.tasksEndMs - elapsed()) / 1000))
    const body = {
      input: { prompt: `Say something of [[${marker}]], please.` },
      options: { ...options, deadline_seconds: deadlineSeconds ?? left },
      metadata: { chaos: index },
    }
    while (!signal.aborted && elapsed() < plan.tasksEndMs) {
      note.tries++
      const url = `${random.pick(apis)}/api/v1/tasks/generate`
      const answer = await ask(url, keys[key], { body, idempotencyKey: `chaos-${index}` })
      note.status = answer?.status ?? null
      if (answer?.status === 200 || answer?.status === 202) {
        note.taskId = answer.body.task_id
        if (answer.status === 200) see(note, answer.body)
        return
      }
      const retryable = answer === null || answer.status === 409 || answer.status === 429 || answer.status >= 500
      if (!retryable) return
      const waitMs = Math.min(MAX_WAIT_MS, answer?.retryAfterMs ?? 0) + random.between(50, 300)
      await delay(waitMs, undefined, { signal }).catch(() => {})
    }
  }

  async function cancel(note: Note, random: Random): Promise<void> {
    const url = `${random.pick(apis)}/api/v1/tasks/${note.taskId}/cancel`
    const answer = await ask(url, keys[note.plan.key], { method: 'POST' })
    if (answer?.status === 200) see(note, answer.body)
  }

  async function watch(note: Note, random: Random): Promise<void> {
    while (!signal.aborted) {
      const url = `${random.pick(apis)}/api/v1/tasks/${note.taskId}?wait=5`
      const answer = await ask(url, keys[note.plan.key], {})
      if (answer?.status === 200 && see(note, answer.body)) return
      await delay(random.between(100, 500), undefined, { signal }).catch(() => {})
    }
  }

  return await Promise.all(plan.tasks.map(runOne))
}

/** @returns whether it has ended */
function see(note: Note, task: Body): boolean {
  if (!TERMINAL.includes(task.status)) return false
  const { status, source, finished_at: finishedAt } = task
  const seen: Seen = { status, source, finishedAt, result: JSON.stringify(task.result) }
  if (note.seen && JSON.stringify(note.seen) !== JSON.stringify(seen)) note.changed = seen
  note.seen ??= seen
  return true
}

function semaphore(slots: number) {
  const waiting: (() => void)[] = []
  let left = slots
  return {
    async acquire(): Promise<void> {
      if (left > 0) left--
      else await new Promise<void>(resolve => waiting.push(resolve))
    },
    release(): void {
      const next = waiting.shift()
      if (next) next()
      else left++
    },
  }
}
