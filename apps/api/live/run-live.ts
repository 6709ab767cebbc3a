import type { FastifyReply, FastifyRequest } from 'fastify'
import { taskCacheKey } from '#shared/cache/cache-key.ts'
import type { NewTask } from '#shared/db/tasks/new-task.ts'
import { isTerminal } from '#shared/db/tasks/row.ts'
import { newId } from '#shared/ids.ts'
import { generate } from '#shared/jobs/generate.ts'
import type { StoredOptions } from '#shared/jobs/options.ts'
import { now } from '#shared/process/clock.ts'
import type { ChatAnswer, StreamEvent } from '#shared/requests/answer.ts'
import type { StoredRequest } from '#shared/requests/stored.ts'
import type { ParsedRequest } from '#shared/requests/wire.ts'
import type { ApiDeps } from '../deps.ts'
import { traceparentOf } from '../http/trace.ts'
import { type Disconnect, watchDisconnect } from './disconnect.ts'
import { followTask } from './follow-task.ts'
import { answerOfView, failure, storedAnswer } from './stored-answer.ts'

/** A request of a compatible surface whose client waits for the answer. */
export type LiveRequest = {
  original: StoredRequest
  parsed: ParsedRequest
  metadata: Record<string, unknown> | null
  /** The call continues when the client leaves: the answer is stored for it. */
  finish: boolean
  /** See the column `stored` of `tasks`. */
  stored?: boolean
  /** Receives the answer while the model writes it; absent: the client wants it whole. */
  onEvent?: ((event: StreamEvent) => void) | undefined
}

/** `id`: of the task. `createdAt`: Unix seconds. */
export type LiveAnswer = { id: string; createdAt: number; answer: ChatAnswer }

/** The SDKs wait ten minutes by default. */
const DEFAULT_SECONDS = 600
/** The longest that a task may take. */
const BACKGROUND_SECONDS = 86_400

/**
 * Runs a request for a client that waits: in this process, or in the queue if this process or the gate is busy.
 * @param begin called once with the id of the task, before any part of the answer
 * @throws SluiceError why there is no answer
 */
export async function runLive(
  deps: ApiDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  live: LiveRequest,
  begin: (task: { id: string; createdAt: number }) => void,
): Promise<LiveAnswer> {
  const options = optionsOf(request, live)
  const fingerprint = { apiKeyId: request.apiKey.id, path: request.url, body: live.original.body }
  const repeated = isRetry(request) ? await deps.retries.find(fingerprint) : null
  const joined = repeated === null ? null : await joinTask(deps, request, live, repeated, begin)
  if (joined) return joined

  const task = newTask(request, live, options)
  deps.preflight.check(generate, { input: task.input, options, apiKeyId: task.apiKeyId })
  const createdAt = Math.floor(now() / 1000)
  begin({ id: task.id, createdAt })
  deps.retries.remember(fingerprint, task.id)
  const client = watchDisconnect(reply.raw, { finish: live.finish })
  const leave = deps.liveClients.enter(task.id, client)
  try {
    const answer = await runTask(deps, task, live, client)
    return { id: task.id, createdAt, answer }
  } finally {
    leave()
    client.done()
  }
}

async function runTask(deps: ApiDeps, task: NewTask, live: LiveRequest, client: Disconnect): Promise<ChatAnswer> {
  const ended = await deps.direct.run(task, { signal: client.signal, onEvent: live.onEvent })
  deps.metrics.accepted.inc({ kind: task.kind })
  if (ended !== null && ended !== 'full') {
    const { end, answer } = ended
    if (end.status !== 'succeeded') throw failure(end.status, end.error)
    if (answer && 'parts' in answer) return answer
    return storedAnswer(end.result, { finishReason: end.finishReason ?? null, model: end.model ?? null, usage: null })
  }
  if (ended === 'full') await enqueue(deps, task)
  return answerOfView(
    await followTask(deps, task.id, {
      onEvent: live.onEvent,
      signal: client.signal,
      deadlineMs: task.deadlineSeconds * 1000,
    }),
  )
}

/** Without Redis, the sweeper dispatches the task. */
async function enqueue(deps: ApiDeps, task: NewTask): Promise<void> {
  await deps.insert(task)
  await deps.producer
    .dispatch({ id: task.id, epoch: 0, queue: task.queue, priority: task.priority })
    .catch(() => undefined)
}

/** Queues a request whose client does not wait. Its events are streamed to Redis. @returns the id of its task */
export async function runInBackground(
  deps: ApiDeps,
  request: FastifyRequest,
  live: Omit<LiveRequest, 'finish' | 'onEvent'>,
): Promise<string> {
  const options: StoredOptions = {
    ...optionsOf(request, live),
    priority: 'normal',
    deadline_seconds: BACKGROUND_SECONDS,
    stream: true,
    streams: 'events',
  }
  const task = newTask(request, live, options)
  deps.preflight.check(generate, { input: task.input, options, apiKeyId: task.apiKeyId })
  await enqueue(deps, task)
  deps.metrics.accepted.inc({ kind: task.kind })
  return task.id
}

/** The answer of the task of an equal request; null: it must run again. */
async function joinTask(
  deps: ApiDeps,
  request: FastifyRequest,
  live: LiveRequest,
  id: string,
  begin: (task: { id: string; createdAt: number }) => void,
): Promise<LiveAnswer | null> {
  const release = deps.liveClients.join(id)
  try {
    const state = await deps.state(id)
    if (!state || (isTerminal(state.status) && state.status !== 'succeeded')) return null
    const createdAt = secondsOf(id)
    begin({ id, createdAt })
    const leaving = new AbortController()
    request.raw.socket.once('close', () => leaving.abort())
    const view = await followTask(deps, id, {
      onEvent: live.onEvent,
      signal: leaving.signal,
      deadlineMs: DEFAULT_SECONDS * 1000,
      cancels: false,
    })
    return { id, createdAt, answer: answerOfView(view) }
  } finally {
    release()
  }
}

/** When an id was made, Unix seconds: a UUIDv7 begins with the milliseconds. */
const secondsOf = (id: string): number => Math.floor(Number.parseInt(id.replaceAll('-', '').slice(0, 12), 16) / 1000)

const isRetry = ({ headers }: FastifyRequest): boolean => Number(headers['x-stainless-retry-count'] ?? 0) > 0

function optionsOf({ headers }: FastifyRequest, { parsed }: Pick<LiveRequest, 'parsed'>): StoredOptions {
  const seconds = Math.floor(Number(headers['x-stainless-timeout'] ?? DEFAULT_SECONDS))
  return {
    ...(parsed.model !== undefined && { model: parsed.model }),
    ...(parsed.maxTokens !== undefined && { max_tokens: parsed.maxTokens }),
    priority: 'interactive',
    deadline_seconds: seconds >= 1 && seconds <= 86_400 ? seconds : DEFAULT_SECONDS,
    stream: parsed.stream,
    // Clients expect sampling.
    cache: headers['x-sluice-cache'] === 'use' ? 'use' : 'off',
    on_budget: 'fail',
    fallback: 'none',
    prompt_version: generate.promptVersion,
    refusals: 'result',
    ...(parsed.stream && { streams: 'events' }),
  }
}

function newTask(
  request: FastifyRequest,
  { original, metadata, stored }: Pick<LiveRequest, 'original' | 'metadata' | 'stored'>,
  options: StoredOptions,
): NewTask {
  const apiKeyId = request.apiKey.id
  const input = original
  return {
    id: newId(),
    kind: generate.kind,
    queue: generate.queue,
    priority: options.priority,
    apiKeyId,
    input,
    options,
    metadata,
    deadlineSeconds: options.deadline_seconds,
    dispatched: true,
    cacheKey: taskCacheKey(generate, { input, options, apiKeyId, variant: undefined }),
    webhookUrl: null,
    exposure: null,
    ...(stored !== undefined && { stored }),
    traceparent: traceparentOf(request),
    answer: null,
    idempotency: null,
  }
}
