import type { RunnableTask } from '#shared/db/tasks.ts'
import type { Hints } from '#shared/events/hints.ts'
import { openDeltaWriter } from '#shared/events/stream.ts'
import type { JobKind, Prompt } from '#shared/jobs/define.ts'
import { filtersOutput, type TaskOptions } from '#shared/jobs/options.ts'
import type { Metrics } from '#shared/metrics.ts'
import type { Redis } from '#shared/redis.ts'
import type { Candidate } from '#shared/routing.ts'
import { type CallAnswer, CallFailure, type Provider } from '#workers/providers/define.ts'

export type CallResult =
  | { kind: 'answer'; answer: CallAnswer }
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
  metrics: Metrics
  /** Upper bound of one call, milliseconds. */
  timeoutMs: number
}

export type CallInput = {
  task: RunnableTask
  kind: JobKind
  prompt: Prompt
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
  const observe = deps.metrics.callSeconds.startTimer({ provider: candidate.provider })
  const timer = setTimeout(slow, slowAfterMs)
  try {
    const answer = await provider.call(
      {
        ...prompt,
        model: candidate.model,
        maxTokens: options.max_tokens ?? kind.maxTokens,
        ...(options.temperature !== undefined && { temperature: options.temperature }),
      },
      {
        signal,
        timeoutMs: Math.max(1, Math.round(Math.min(deps.timeoutMs, leftMs))),
        ...(traceparent && { traceparent }),
        ...(writer && { onDelta: (text: string) => writer.write(text) }),
      },
    )
    await writer?.end()
    return { kind: 'answer', answer }
  } catch (error) {
    if (error instanceof CallFailure)
      return { kind: 'failure', failure: error, hurried: error.kind === 'timeout' && leftMs < deps.timeoutMs }
    throw error
  } finally {
    clearTimeout(timer)
    observe()
  }
}
