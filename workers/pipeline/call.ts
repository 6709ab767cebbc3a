import type { RunnableTask } from '#shared/db/tasks.ts'
import type { Hints } from '#shared/events/hints.ts'
import { openDeltaWriter } from '#shared/events/stream.ts'
import type { Ask, JobKind } from '#shared/jobs/define.ts'
import { filtersOutput, type TaskOptions } from '#shared/jobs/options.ts'
import type { ModelLabel } from '#shared/measure.ts'
import type { Metrics } from '#shared/metrics.ts'
import type { Redis } from '#shared/redis.ts'
import type { Candidate } from '#shared/routing.ts'
import { type CallAnswer, CallFailure, type EmbedAnswer, type Provider } from '#workers/providers/define.ts'

export type CallResult =
  | { kind: 'answer'; answer: CallAnswer | EmbedAnswer }
  | {
      kind: 'failure'
      failure: CallFailure /** It ran out of time because the task had less than a call may take. */
      hurried: boolean
    }

export type CallDeps = {
  providers: ReadonlyMap<string, Provider>
  redis: Redis
  hints: Hints
  prefix: string
  metrics: Pick<Metrics, 'callSeconds' | 'firstChunkSeconds'>
  modelLabel: ModelLabel
  /** Upper bound of one call, milliseconds. */
  timeoutMs: number
}

export type CallInput = {
  task: RunnableTask
  kind: JobKind
  prompt: Ask
  candidate: Candidate
  attempt: number
  signal: AbortSignal
  /** What the deadline leaves for this call, milliseconds. */
  leftMs: number
  /** When the call counts as slow, and whom to tell. */
  slowAfterMs: number
  slow(): void
  /** W3C trace context, to be sent along. */
  traceparent?: string
}

/** One provider call; every way that it can go is a value. */
export async function call(
  deps: CallDeps,
  { task, kind, prompt, candidate, attempt, signal, leftMs, slowAfterMs, slow, traceparent }: CallInput,
): Promise<CallResult> {
  const provider = deps.providers.get(candidate.provider)
  if (!provider) throw new Error(`no adapter for provider "${candidate.provider}"`)
  const options = task.options as TaskOptions
  // What is sent as it is written cannot be taken back.
  const streams = options.stream && !filtersOutput(kind, options)
  const writer = streams ? openDeltaWriter({ ...deps, id: task.id, attempt }) : null
  const labels = {
    gen_ai_operation_name: 'texts' in prompt ? 'embeddings' : 'chat',
    gen_ai_provider_name: candidate.provider,
    gen_ai_request_model: deps.modelLabel(candidate.provider, candidate.model),
  }
  const observe = deps.metrics.callSeconds.startTimer(labels)
  const observeFirst = writer && deps.metrics.firstChunkSeconds.startTimer(labels)
  const write = (to: NonNullable<typeof writer>) => (text: string) => {
    if (pieces++ === 0) observeFirst?.()
    to.write(text)
  }
  let pieces = 0
  /** A value of `FailureKind`; empty: it was answered. */
  let errorType = ''
  const timer = setTimeout(slow, slowAfterMs)
  const context = {
    signal,
    timeoutMs: Math.max(1, Math.round(Math.min(deps.timeoutMs, leftMs))),
    ...(traceparent && { traceparent }),
  }
  const embed = () => {
    if (!provider.embedding) throw new Error(`${candidate.provider} makes no vectors`)
    return provider.embedding
  }
  try {
    const answer =
      'texts' in prompt
        ? await embed().call({ ...prompt, model: candidate.model }, context)
        : await provider.call(
            {
              ...prompt,
              model: candidate.model,
              maxTokens: options.max_tokens ?? kind.maxTokens,
              ...(options.temperature !== undefined && { temperature: options.temperature }),
            },
            { ...context, ...(writer && { onDelta: write(writer) }) },
          )
    await writer?.end()
    return { kind: 'answer', answer }
  } catch (error) {
    errorType = error instanceof CallFailure ? error.kind : 'unknown'
    if (error instanceof CallFailure)
      return { kind: 'failure', failure: error, hurried: error.kind === 'timeout' && leftMs < deps.timeoutMs }
    throw error
  } finally {
    clearTimeout(timer)
    observe({ error_type: errorType })
  }
}
