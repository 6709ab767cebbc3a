import type { RunnableTask } from '#shared/db/tasks/load.ts'
import { type Target, targetName } from '#shared/gate/target.ts'
import type { JobKind, ModelRequest } from '#shared/jobs/define.ts'
import type { StoredOptions } from '#shared/jobs/options.ts'
import { buildRequest, promptText, repairPrompt } from '#shared/jobs/prompt.ts'
import { hasImageUrls, type InlineImages } from '#shared/media/inline-images.ts'
import type { ModelCapabilities } from '#shared/models/capabilities.ts'
import type { CallAnswer, EmbedAnswer } from '#shared/providers/define.ts'
import type { StreamEvent } from '#shared/requests/answer.ts'
import { placeOfImage } from '#shared/requests/parameters.ts'
import type { ChatRequest } from '#shared/requests/request.ts'
import { type AvailableProvider, route, type Signals } from '#shared/routing.ts'
import { afterAttempt, initialProgress, type Progress } from './after-attempt.ts'
import { answerBeforeCalls, fallbackAnswer } from './answer-without-call.ts'
import { type AttemptDeps, type AttemptOutcome, createAttempt } from './attempt.ts'
import type { StopReason } from './claim-registry.ts'
import type { ClaimSession, ClaimSessionDeps, TaskEnd } from './claim-session.ts'
import type { ConcludeDeps, Conclusion } from './conclude.ts'
import { noAnswerError, refusingBudget, retryDelayMs } from './no-answer.ts'
import { type OutputLimit, type OutputLimitDeps, outputLimitOf } from './output-limit.ts'
import { mayRaiseLimit, repeatsFailure, truncatedAt } from './rejections.ts'
import type { StageTimer } from './stage-timer.ts'
import {
  adaptTo,
  needsOf,
  suitableTargets,
  takesImageUrls,
  type Unsuitable,
  unsupported,
  withReports,
} from './suitable-targets.ts'

export type RunDeps = AttemptDeps &
  ClaimSessionDeps &
  ConcludeDeps &
  Pick<OutputLimitDeps, 'limitsOf'> & {
    jobs: ReadonlyMap<string, JobKind>
    inlineImages: InlineImages
    /** What the server of a target says about its model; null: nothing. */
    reported(target: Target, signal: AbortSignal): Promise<ModelCapabilities> | null
    load(job: { id: string; epoch: number }): Promise<RunnableTask | null>
    available(): Promise<AvailableProvider[]>
    scores(): ReadonlyMap<string, Signals>
    maxAttempts: number
    backoff: { baseMs: number; maxMs: number }
  }

/** Failed attempts after which no answer is repaired. */
const MAX_REPAIRS = 2

/** The client of a run that waits for it. */
export type LiveRun = {
  /** Aborts when the client leaves: the call is stopped, and the task cancelled. */
  signal: AbortSignal
  /** Receives the answer while the model writes it. */
  onEvent?: ((event: StreamEvent) => void) | undefined
  /** Called before each call with its target. */
  onTarget?: ((target: Target) => void) | undefined
  /**
   * Called when the task has ended in this run. `answer`: the model's; null: there was no call, or none succeeded. Not called if the task
   * continues in the queue, or another process has ended it.
   */
  onEnd(end: TaskEnd, answer: CallAnswer | EmbedAnswer | null): void
}

/** One run of a task. */
export type Run = {
  task: RunnableTask
  kind: JobKind
  session: ClaimSession
  time: StageTimer
  onSlow: () => void
  onEvent?: LiveRun['onEvent']
  onTarget?: LiveRun['onTarget']
  onEnd?: LiveRun['onEnd']
}

/**
 * Tries the task's targets, best first, until one answers or the task has to wait or end without. This file alone owns the loop over
 * targets (failover, repair, retry); no stage calls another.
 */
export async function answer(deps: RunDeps, run: Run): Promise<Conclusion> {
  const { task, kind, session } = run
  const before = await answerBeforeCalls(deps, task, kind)
  if (before === 'follows') return { kind: 'leave' }
  if (before) return { kind: 'use', answer: before }

  const options = task.options as StoredOptions
  const request = buildRequest(kind, task.input, options)
  const suitable = await targetsOf(deps, run, request, await deps.available())
  if ('refusal' in suitable) return { kind: 'fail', error: unsupported(suitable.refusal) }
  const { targets, available } = suitable
  const attempt = createAttempt(deps, run)
  let progress = initialProgress(task)

  const mayContinue = () => session.failedAttempts < deps.maxAttempts && session.leftMs() > 0

  /** Attempts one target until it answers, cannot, or its answer cannot be repaired. @returns null: try the next target */
  async function tryTarget(target: Target, book: boolean): Promise<Conclusion | null> {
    const ownPrompt = kind.operation === 'chat' ? kind.promptFor(task.input, target.model) : null
    const base = ownPrompt ?? adaptTo(target, request, available)
    const given = await withImages(deps, run, target, base, available)
    run.onTarget?.(target)
    for (let prompt = given.prompt; ; ) {
      const limit = limitFor(target, prompt)
      if (!limit) return null
      const outcome = given.failed ?? (await attempt({ target, prompt, limit, book }))
      const context = { kind, options, failedAttempts: session.failedAttempts, backoff: deps.backoff }
      const next = afterAttempt(context, progress, target, outcome)
      progress = next.progress
      const { step } = next
      if (step.kind === 'conclude') return step.conclusion
      if (step.kind === 'next_target' || !mayContinue()) return null
      if (step.kind === 'repair') {
        // A guard model knows no conversation: it would judge our request for another answer, and find it safe.
        if (ownPrompt || 'texts' in base || session.failedAttempts > MAX_REPAIRS) return null
        prompt = repairPrompt(given.prompt as ChatRequest, step.answer, step.reason)
      }
    }
  }

  /** @returns null: a truncated answer is not requested again with the same limit */
  function limitFor(target: Target, prompt: ModelRequest): OutputLimit | null {
    const limit = outputLimitOf(deps, kind, options, prompt, target, truncatedAt(progress.rejected))
    const ceiling = progress.ceilings.get(targetName(target)) ?? Number.POSITIVE_INFINITY
    return limit && { max: Math.min(limit.max, ceiling), min: Math.min(limit.min, ceiling) }
  }

  for (const target of targets) {
    if (!mayContinue() || !mayRaiseLimit(progress.rejected, target)) break
    // With a single target, the gate may book a slot at once.
    const conclusion = await tryTarget(target, targets.length === 1)
    if (conclusion) return conclusion
  }
  // All are busy: book a slot where it is soonest.
  const soonest = progress.waits.toSorted((a, b) => a.ms - b.ms)[0]
  if (targets.length > 1 && soonest?.bookable && mayContinue()) {
    progress = { ...progress, waits: progress.waits.filter(one => one !== soonest) }
    const conclusion = await tryTarget(soonest.target, true)
    if (conclusion) return conclusion
  }
  return await withoutAnswer(deps, run, progress, { available, attempted: targets.length > 0 })
}

/** The prompt with the content of its images, for a provider that takes no URLs. `failed`: one cannot be fetched, or the run was stopped. */
async function withImages(
  { inlineImages }: RunDeps,
  { task, session }: Pick<Run, 'task' | 'session'>,
  target: Target,
  prompt: ModelRequest,
  available: AvailableProvider[],
): Promise<{ prompt: ModelRequest; failed?: AttemptOutcome }> {
  if ('texts' in prompt || !hasImageUrls(prompt) || takesImageUrls(target, available)) return { prompt }
  const inlined = await inlineImages(prompt, session.signal)
  if ('request' in inlined) return { prompt: inlined.request }
  if (session.signal.aborted)
    return { prompt, failed: { kind: 'stopped', reason: session.signal.reason as StopReason } }
  const { url, message } = inlined.problem
  // The input of a task of our own API has the notation of OpenAI's chat format.
  const given = prompt.original ?? { wire: 'openai-chat', body: task.input as Record<string, unknown> }
  const param = placeOfImage(given, url)
  return {
    prompt,
    failed: { kind: 'no_image', param, message: `'${param}': the URL ${url.slice(0, 200)} ${message}.` },
  }
}

/** The targets of a task in the order of their scores, without those that cannot answer it, or why there is none. */
async function targetsOf(
  deps: RunDeps,
  { task, kind, session }: Run,
  request: ModelRequest,
  usable: AvailableProvider[],
): Promise<{ targets: Target[]; available: AvailableProvider[] } | Unsuitable> {
  const { rejected, dead_ends } = task
  const options = task.options as StoredOptions
  const routed = route(options, usable, {
    scores: deps.scores(),
    random: Math.random,
    prompt: promptText(request),
    operation: kind.operation,
    ...(!('schema' in request && request.schema) && { kind: kind.kind }),
  })
  const available =
    'texts' in request || needsOf(request).length === 0
      ? usable
      : await withReports(usable, routed, one => deps.reported(one, session.signal))
  const suitable =
    'texts' in request ? { targets: routed } : suitableTargets(request, routed, available, options.allow_lossy)
  if ('refusal' in suitable) return suitable
  const targets = suitable.targets.filter(
    one => !dead_ends.includes(targetName(one)) && mayRaiseLimit(rejected, one) && !repeatsFailure(rejected, one),
  )
  return { targets, available }
}

/** No target answered: the task waits for the one that may answer first, falls back, or fails. */
async function withoutAnswer(
  deps: RunDeps,
  { task, kind, session }: Run,
  progress: Progress,
  { available, attempted }: { available: AvailableProvider[]; attempted: boolean },
): Promise<Conclusion> {
  const options = task.options as StoredOptions
  const delayMs = retryDelayMs(task, progress, session.leftMs())
  if (session.failedAttempts < deps.maxAttempts && delayMs < session.leftMs()) return { kind: 'requeue', delayMs }
  // Tasks stored before `on_budget` existed have none.
  if (!refusingBudget(progress) || (options.on_budget ?? 'fallback') === 'fallback') {
    const answer = await fallbackAnswer(deps, task, kind)
    if (answer) return { kind: 'use', answer }
  }
  if (session.leftMs() <= 0) return { kind: 'expire', failed: progress.failed }
  const { provider = null, model = null } = options
  const asked = attempted || task.dead_ends.length > 0 || progress.rejected.length > 0
  const error = noAnswerError(progress, asked, { provider, model, available })
  return { kind: 'fail', error, finishReason: error.code === 'output_truncated' ? 'length' : null }
}
