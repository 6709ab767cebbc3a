import type { FastifyReply, FastifyRequest } from 'fastify'
import type { NewTask } from '#shared/db/tasks/new-task.ts'
import type { TaskView } from '#shared/db/tasks/read.ts'
import { isTerminal } from '#shared/db/tasks/row.ts'
import { lostAt } from '#shared/engine/suitable-targets.ts'
import { SluiceError } from '#shared/errors.ts'
import type { Target } from '#shared/gate/target.ts'
import { generate } from '#shared/jobs/generate.ts'
import type { StoredOptions } from '#shared/jobs/options.ts'
import { now } from '#shared/process/clock.ts'
import type { ChatAnswer } from '#shared/requests/answer.ts'
import { wholeRequest } from '#shared/requests/stored.ts'
import { route } from '#shared/routing.ts'
import type { ApiDeps } from '../deps.ts'
import { clientSeconds, waitMs } from './client-timeout.ts'
import { type Disconnect, watchDisconnect } from './disconnect.ts'
import { cancelTask, followTask } from './follow-task.ts'
import { allowedLosses, type LiveRequest, newTask, optionsOf } from './live-task.ts'
import { answerOfView, failure, storedAnswer } from './stored-answer.ts'

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
  if (ended === 'full') await enqueue(deps, task)
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
  return answerOfView(view)
}

/** Without Redis, the sweeper dispatches the task. */
async function enqueue(deps: ApiDeps, task: NewTask): Promise<void> {
  await deps.insert(task)
  await deps.producer
    .dispatch({ id: task.id, epoch: 0, queue: task.queue, priority: task.priority })
    .catch(() => undefined)
}

/** The longest that a task may take. */
const BACKGROUND_SECONDS = 86_400

/** Queues a request whose client does not wait. Its events are streamed to Redis. @returns the id of its task */
export async function runInBackground(
  deps: ApiDeps,
  request: FastifyRequest,
  live: Omit<LiveRequest, 'finish' | 'onEvent' | 'onLost'>,
): Promise<string> {
  const options: StoredOptions = {
    ...optionsOf(request, live),
    priority: 'normal',
    deadline_seconds: BACKGROUND_SECONDS,
    stream: true,
    streams: 'events',
  }
  const task = newTask(request, live, options)
  deps.preflight.check(generate, {
    input: task.input,
    options,
    apiKeyId: task.apiKeyId,
    request: wholeRequest(live.parsed),
  })
  await enqueue(deps, task)
  deps.metrics.accepted.inc({ kind: task.kind })
  return task.id
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
    const createdAt = secondsOf(id)
    begin({ id, createdAt })
    const leaving = new AbortController()
    request.raw.socket.once('close', () => leaving.abort())
    const view = await followTask(deps, id, {
      onEvent: live.onEvent,
      signal: leaving.signal,
      deadlineMs: clientSeconds(request.headers) * 1000,
      cancels: false,
    })
    noteAnswer(view, lossNoter(deps, live, allowedLosses(request.headers['x-sluice-allow-lossy'])))
    return { id, createdAt, answer: answerOfView(view) }
  } finally {
    release()
  }
}

/** When an id was made, Unix seconds: a UUIDv7 begins with the milliseconds. */
const secondsOf = (id: string): number => Math.floor(Number.parseInt(id.replaceAll('-', '').slice(0, 12), 16) / 1000)

const isRetry = ({ headers }: FastifyRequest): boolean => Number(headers['x-stainless-retry-count'] ?? 0) > 0
