import type { RunnableTask } from '#shared/db/tasks/load.ts'
import type { Notifications } from '#shared/events/notifications.ts'
import { type DeltaWriter, openDeltaWriter } from '#shared/events/stream.ts'
import type { Target } from '#shared/gate/target.ts'
import type { JobKind, ModelRequest } from '#shared/jobs/define.ts'
import { filtersOutput, type StoredOptions } from '#shared/jobs/options.ts'
import type { Metrics } from '#shared/metrics/metrics.ts'
import type { ModelLabel } from '#shared/metrics/model-label.ts'
import { type CallAnswer, CallFailure, type EmbedAnswer, type Provider } from '#shared/providers/define.ts'
import type { Redis } from '#shared/redis/connect.ts'
import type { StreamEvent } from '#shared/requests/answer.ts'

export type CallResult =
  | { kind: 'answer'; answer: CallAnswer | EmbedAnswer }
  | {
      kind: 'failure'
      failure: CallFailure
      /** It timed out because the task had less time left than a call may take. */
      hurried: boolean
      /** A part of the answer has been passed on. */
      streamed?: boolean
    }

export type CallDeps = {
  providers: ReadonlyMap<string, Provider>
  redis: Redis
  notifications: Notifications
  prefix: string
  metrics: Pick<Metrics, 'callSeconds' | 'firstChunkSeconds'>
  modelLabel: ModelLabel
  /** Upper bound of one call, milliseconds. */
  timeoutMs: number
}

export type CallInput = {
  task: RunnableTask
  kind: JobKind
  prompt: ModelRequest
  target: Target
  attempt: number
  /** Output token limit. */
  maxTokens: number
  signal: AbortSignal
  /** Time that the deadline leaves for this call, milliseconds. */
  leftMs: number
  /** `slow` is called if the call still runs after this time. */
  slowAfterMs: number
  slow(): void
  /** Receives the answer while the model writes it. Absent: it goes to the stream of the task, if the task has one. */
  onEvent?: ((event: StreamEvent) => void) | undefined
  /** W3C trace context, sent to the provider. */
  traceparent?: string
}

/** The text of an answer, for streams of tasks. */
const writeText = (writer: DeltaWriter) => (event: StreamEvent) => {
  if (event.type === 'text' || event.type === 'refusal') writer.write(event.delta)
}

/** Every piece of an answer as a line of JSON. */
const writeEvents = (writer: DeltaWriter) => (event: StreamEvent) => writer.write(`${JSON.stringify(event)}\n`)

/** Makes one provider call. A failed call is a value; only a bug throws. */
export async function call(
  deps: CallDeps,
  {
    task,
    kind,
    prompt,
    target,
    attempt,
    maxTokens,
    signal,
    leftMs,
    slowAfterMs,
    slow,
    onEvent,
    traceparent,
  }: CallInput,
): Promise<CallResult> {
  const provider = deps.providers.get(target.provider)
  if (!provider) throw new Error(`no adapter for provider "${target.provider}"`)
  const options = task.options as StoredOptions
  // A filtered answer is not streamed: text that has been sent cannot be taken back.
  const streams = options.stream && !onEvent && !filtersOutput(kind, options)
  const writer = streams ? openDeltaWriter({ ...deps, id: task.id, attempt }) : null
  const labels = {
    gen_ai_operation_name: 'texts' in prompt ? 'embeddings' : 'chat',
    gen_ai_provider_name: target.provider,
    gen_ai_request_model: deps.modelLabel(target.provider, target.model),
  }
  const observe = deps.metrics.callSeconds.startTimer(labels)
  const sink = onEvent ?? (writer && (options.streams === 'events' ? writeEvents(writer) : writeText(writer)))
  const observeFirst = sink && deps.metrics.firstChunkSeconds.startTimer(labels)
  const receive = (send: (event: StreamEvent) => void) => (event: StreamEvent) => {
    if (events++ === 0) observeFirst?.()
    send(event)
  }
  let events = 0
  /** A `CallFailureKind`; empty: the call was answered. */
  let errorType = ''
  const timer = setTimeout(slow, slowAfterMs)
  const context = {
    signal,
    timeoutMs: Math.max(1, Math.round(Math.min(deps.timeoutMs, leftMs))),
    ...(traceparent && { traceparent }),
  }
  const embed = () => {
    if (!provider.embedding) throw new Error(`${target.provider} creates no embeddings`)
    return provider.embedding
  }
  try {
    const answer =
      'texts' in prompt
        ? await embed().call({ ...prompt, model: target.model }, context)
        : await provider.call(
            {
              ...prompt,
              model: target.model,
              maxTokens,
              ...(options.temperature !== undefined && {
                sampling: { ...prompt.sampling, temperature: options.temperature },
              }),
            },
            { ...context, ...(sink && { onEvent: receive(sink) }) },
          )
    await writer?.end()
    return { kind: 'answer', answer }
  } catch (error) {
    errorType = error instanceof CallFailure ? error.kind : 'unknown'
    if (error instanceof CallFailure)
      return {
        kind: 'failure',
        failure: error,
        hurried: error.kind === 'timeout' && leftMs < deps.timeoutMs,
        streamed: events > 0,
      }
    throw error
  } finally {
    clearTimeout(timer)
    observe({ error_type: errorType })
  }
}
