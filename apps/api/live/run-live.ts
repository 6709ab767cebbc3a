import type { FastifyReply, FastifyRequest } from 'fastify'
import { taskCacheKey } from '#shared/cache/cache-key.ts'
import type { NewTask } from '#shared/db/tasks/new-task.ts'
import type { TaskView } from '#shared/db/tasks/read.ts'
import { isTerminal } from '#shared/db/tasks/row.ts'
import { lostAt } from '#shared/engine/suitable-targets.ts'
import { type ErrorCode, SluiceError, type TaskError } from '#shared/errors.ts'
import type { Target } from '#shared/gate/target.ts'
import { newId } from '#shared/ids.ts'
import { generate } from '#shared/jobs/generate.ts'
import type { StoredOptions } from '#shared/jobs/options.ts'
import type { FinishReason } from '#shared/models/finish-reasons.ts'
import { now } from '#shared/process/clock.ts'
import type { ChatAnswer, StreamEvent } from '#shared/requests/answer.ts'
import { answerOf, type StoredAnswer, type StoredRequest, wholeRequest } from '#shared/requests/stored.ts'
import type { ParsedRequest } from '#shared/requests/wire.ts'
import { route } from '#shared/routing.ts'
import type { ApiDeps } from '../deps.ts'
import { traceparentOf } from '../http/trace.ts'
import { clientSeconds, deadlineSeconds, waitMs } from './client-timeout.ts'
import { type Disconnect, watchDisconnect } from './disconnect.ts'
import { cancelTask, followTask } from './follow-task.ts'

/** A request of a compatible surface whose client waits for the answer. */
export type LiveRequest = {
  original: StoredRequest
  parsed: ParsedRequest
  metadata: Record<string, unknown> | null
  /** The call continues when the client leaves: the answer is stored for it. */
  finish: boolean
  /** Receives the answer while the model writes it; absent: the client wants it whole. */
  onEvent?: ((event: StreamEvent) => void) | undefined
  /** Receives the names of the parameters that the request loses, with the client's permission, before the answer begins. */
  onLost?: ((names: string[]) => void) | undefined
}

/** `id`: of the task. `createdAt`: Unix seconds. */
export type LiveAnswer = { id: string; createdAt: number; answer: ChatAnswer }

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
  deps.preflight.check(generate, {
    input: task.input,
    options,
    apiKeyId: task.apiKeyId,
    request: wholeRequest(live.parsed),
  })
  const createdAt = Math.floor(now() / 1000)
  begin({ id: task.id, createdAt })
  deps.retries.remember(fingerprint, task.id)
  const client = watchDisconnect(reply.raw, { finish: live.finish })
  const leave = deps.liveClients.enter(task.id, client)
  try {
    const answer = await runTask(deps, task, live, client, () => waitMs(request.headers, reply.elapsedTime))
    return { id: task.id, createdAt, answer }
  } finally {
    leave()
    client.done()
  }
}

async function runTask(
  deps: ApiDeps,
  task: NewTask,
  live: LiveRequest,
  client: Disconnect,
  clientWaitMs: () => number,
): Promise<ChatAnswer> {
  const options = task.options as StoredOptions
  const note = lossNoter(deps, live, options)
  const ended = await deps.direct.run(task, { signal: client.signal, onEvent: live.onEvent, onTarget: note })
  deps.metrics.accepted.inc({ kind: task.kind })
  if (ended !== null && ended !== 'full') {
    const { end, answer } = ended
    if (end.status !== 'succeeded') throw failure(end.status, end.error)
    if (answer && 'parts' in answer) return answer
    return storedAnswer(end.result, { finishReason: end.finishReason ?? null, model: end.model ?? null, usage: null })
  }
  if (ended === 'full') {
    await deps.insert(task)
    await deps.producer
      .dispatch({ id: task.id, epoch: 0, queue: task.queue, priority: task.priority })
      .catch(() => undefined)
  }
  // Which target answers a stream from the queue is known only after its beginning: any of them may.
  if (note && live.onEvent) note(...route(options, deps.available()))
  const view = await followTask(deps, task.id, {
    onEvent: live.onEvent,
    signal: client.signal,
    deadlineMs: task.deadlineSeconds * 1000,
    waitMs: clientWaitMs(),
  }).catch(async error => {
    throw (await stillQueued(deps, task.id, error)) ?? error
  })
  noteAnswer(view, note)
  return viewAnswer(view)
}

/** The error of a client whose timeout nears while its task waits for its first call: it may ask again later. Null: it is another error. */
async function stillQueued(deps: ApiDeps, id: string, error: unknown): Promise<SluiceError | null> {
  if (!(error instanceof SluiceError) || error.code !== 'deadline_exceeded') return null
  if ((await deps.state(id))?.status !== 'queued') return null
  const message = 'The request waited in the queue until the timeout of its client neared.'
  await cancelTask(deps, id, message)
  return new SluiceError('rate_limited', `${message} Limits of the provider or of this server are reached.`, {
    retryAfter: 1,
  })
}

/** undefined: the client permits no loss. */
function lossNoter(
  deps: ApiDeps,
  { parsed, onLost }: LiveRequest,
  { allow_lossy }: Pick<StoredOptions, 'allow_lossy'>,
) {
  if (!onLost || allow_lossy === undefined) return undefined
  const request = wholeRequest(parsed)
  return (...targets: Target[]) => onLost(targets.flatMap(one => lostAt(request, one, deps.available())))
}

function noteAnswer({ provider, model }: TaskView, onTarget: ((target: Target) => void) | undefined): void {
  if (provider !== null && model !== null) onTarget?.({ provider, model })
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
    const leaving = new AbortController()
    request.raw.socket.once('close', () => leaving.abort())
    const view = await followTask(deps, id, {
      onEvent: live.onEvent,
      signal: leaving.signal,
      deadlineMs: clientSeconds(request.headers) * 1000,
      cancels: false,
    })
    const createdAt = Math.floor(view.created_at.getTime() / 1000)
    begin({ id, createdAt })
    noteAnswer(view, lossNoter(deps, live, allowedLosses(request.headers['x-sluice-allow-lossy'])))
    return { id, createdAt, answer: viewAnswer(view) }
  } finally {
    release()
  }
}

const isRetry = ({ headers }: FastifyRequest): boolean => Number(headers['x-stainless-retry-count'] ?? 0) > 0

function optionsOf({ headers }: FastifyRequest, { parsed }: LiveRequest): StoredOptions {
  return {
    ...(parsed.model !== undefined && { model: parsed.model }),
    ...(parsed.maxTokens !== undefined && { max_tokens: parsed.maxTokens }),
    priority: 'interactive',
    deadline_seconds: deadlineSeconds(headers),
    stream: parsed.stream,
    // Clients expect sampling.
    cache: headers['x-sluice-cache'] === 'use' ? 'use' : 'off',
    on_budget: 'fail',
    fallback: 'none',
    prompt_version: generate.promptVersion,
    refusals: 'result',
    ...allowedLosses(headers['x-sluice-allow-lossy']),
    ...(parsed.stream && { streams: 'events' }),
  }
}

/** `true`, or names of parameters, separated by commas. */
function allowedLosses(header: string | string[] | undefined): Pick<StoredOptions, 'allow_lossy'> {
  const names = [header ?? []]
    .flat()
    .join(',')
    .split(',')
    .map(one => one.trim())
    .filter(one => one !== '')
  if (names.length === 0) return {}
  return { allow_lossy: names.some(one => one.toLowerCase() === 'true') ? true : names }
}

function newTask(request: FastifyRequest, { original, metadata }: LiveRequest, options: StoredOptions): NewTask {
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
    traceparent: traceparentOf(request),
    answer: null,
    idempotency: null,
  }
}

function viewAnswer(view: TaskView): ChatAnswer {
  if (view.status !== 'succeeded') throw failure(view.status, view.error ?? undefined)
  const { input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens } = view
  return storedAnswer(view.result, {
    finishReason: view.finish_reason,
    model: view.model,
    usage: {
      inputTokens: input_tokens,
      outputTokens: output_tokens,
      cacheReadTokens: cache_read_tokens,
      cacheWriteTokens: cache_write_tokens,
      reasoningTokens: reasoning_tokens,
    },
  })
}

const storedAnswer = (
  result: unknown,
  {
    finishReason,
    model,
    usage,
  }: { finishReason: FinishReason | null; model: string | null; usage: ChatAnswer['usage'] },
): ChatAnswer => answerOf(result as StoredAnswer, { finishReason: finishReason ?? 'stop', model: model ?? '', usage })

const failure = (status: string, error: TaskError | undefined): SluiceError =>
  new SluiceError(
    (error?.code ?? (status === 'expired' ? 'deadline_exceeded' : 'internal')) as ErrorCode,
    error?.message,
    error?.context && { context: error.context },
  )
