import { Histogram } from 'prom-client'
import type { Settlement } from '#shared/db/attempts.ts'
import type { BudgetRefusal, ClaimRequest } from '#shared/db/claims/admission.ts'
import type { NextRequest } from '#shared/db/claims/next-attempt.ts'
import type { Requeue } from '#shared/db/claims/requeue.ts'
import type { TaskOutcome } from '#shared/db/tasks/finish.ts'
import type { RunnableTask } from '#shared/db/tasks/load.ts'
import type { NewTask } from '#shared/db/tasks/new-task.ts'
import type { AdmitRequest, AdmitResult } from '#shared/engine/admit.ts'
import { createAnswerMemory } from '#shared/engine/answer-memory.ts'
import type { CallInput, CallResult } from '#shared/engine/call.ts'
import { check } from '#shared/engine/check.ts'
import { createClaimRegistry } from '#shared/engine/claim-registry.ts'
import type { RunDeps } from '#shared/engine/run.ts'
import { createRunner } from '#shared/engine/runner.ts'
import type { EndedAttempt } from '#shared/engine/settle.ts'
import type { JobKind } from '#shared/jobs/define.ts'
import { generate } from '#shared/jobs/generate.ts'
import type { FinishReason } from '#shared/models/finish-reasons.ts'
import { createLogger } from '#shared/process/logger.ts'
import { CallFailure, type CallFailureKind } from '#shared/providers/define.ts'
import { textParts } from '#shared/providers/guard.ts'

export const NAMES = ['anthropic', 'openai', 'ollama']
/** `generate` with rules as its fallback. */
export const RULED: JobKind = {
  ...generate,
  fallback: 'rules',
  rules: input => ((input as { schema?: unknown }).schema === undefined ? { text: 'by the rules' } : null),
}
export const logger = createLogger({ level: 'silent', name: 'test' })

export const answer = (text: string, finishReason: FinishReason = 'stop'): CallResult => ({
  kind: 'answer',
  answer: { parts: textParts(text), finishReason, usage: null, limits: null, model: 'the-model' },
})
export const failure = (kind: CallFailureKind, retryAfterMs: number | null = null): CallResult => ({
  kind: 'failure',
  hurried: false,
  failure: new CallFailure(kind, `it was ${kind}`, { retryAfterMs }),
})
export type Behaviour = CallResult | ((input: CallInput) => CallResult | Promise<CallResult>)

export const expiring = (ms: number) => {
  const until = performance.now() + ms
  return () => performance.now() < until
}

/** A gate that admits every call, except to the providers in `closed`. */
export function gate(closed: Record<string, Exclude<AdmitResult, { kind: 'go' }>> = {}) {
  const asked: AdmitRequest[] = []
  const reports: unknown[] = []
  const released: string[] = []
  return {
    asked,
    reports,
    released,
    async admit(request: AdmitRequest): Promise<AdmitResult> {
      asked.push(request)
      const { provider } = request.target
      return (
        closed[provider] ?? {
          kind: 'go',
          permit: {
            start: expiring(1000),
            slowAfterMs: 30_000,
            slow: () => undefined,
            report: outcome => void reports.push([provider, outcome]),
            release: () => void released.push(provider),
          },
        }
      )
    },
  }
}
export const refusal = (more: Partial<BudgetRefusal> = {}): BudgetRefusal => ({
  scope: 'global',
  window: 'day',
  limit_usd: '1',
  exceeded: true,
  left_usd: '0',
  resets_ms: 10_000,
  ...more,
})

/** Runs one task in one worker. The n-th call has the n-th of `behaviours`; further calls fail with `server_error`. */
export function harness(
  behaviours: Behaviour[] = [],
  options: { task?: Partial<RunnableTask>; deps?: Partial<RunDeps> } = {},
) {
  const task: RunnableTask = {
    id: 'task',
    kind: 'generate',
    queue: 'default',
    priority: 'normal',
    api_key_id: 'key',
    cache_key: null,
    batch_id: null,
    input: { prompt: 'Hi' },
    options: {},
    epoch: 3,
    attempts: 0,
    tries: 0,
    left_ms: 60_000,
    waited_ms: 250,
    traceparent: null,
    dead_ends: [],
    rejected: [],
    ...options.task,
  }
  const calls: string[] = []
  const log: unknown[] = []
  const claims: ClaimRequest[] = []
  const nexts: NextRequest[] = []
  const stored: NewTask[] = []
  const requeues: Omit<Requeue, 'id' | 'epoch'>[] = []
  const endings: TaskOutcome[] = []
  /** Outcome by attempt number; null while the attempt is open. */
  const attempts = new Map<number, string | null>()
  const settle = (settlement: Settlement | null) => settlement && attempts.set(settlement.n, settlement.outcome)
  const claimRegistry = createClaimRegistry()
  const admission = gate()
  const deps: RunDeps = {
    workerId: 'worker',
    jobs: new Map([['generate', RULED]]),
    load: async () => task,
    health: { record: () => undefined },
    inlineImages: async request => ({ request }),
    reported: () => null,
    available: async () => NAMES.map(name => ({ name, defaultModel: 'a-model' })),
    admission,
    limitsOf: () => ({ tpm: null, otpm: null }),
    scores: () => new Map(),
    prices: { worstCaseOf: () => '0.01', priceVersionOf: () => 'v' },
    coalescing: {
      lookUp: async () => ({ kind: 'lead' }),
      findStale: async () => null,
      remember: async () => undefined,
      releaseLead: () => undefined,
    },
    precomputed: async () => null,
    claims: {
      async claim(request, controller) {
        claims.push(request)
        attempts.set(request.n, null)
        claimRegistry.add({ id: request.id, epoch: request.epoch, controller })
        return { kind: 'claimed' }
      },
      async claimNew(request, _, controller) {
        claims.push(request)
        attempts.set(request.n, null)
        claimRegistry.add({ id: request.id, epoch: request.epoch, controller })
        return { kind: 'claimed' }
      },
      async next(request) {
        nexts.push(request)
        settle(request.settlement)
        attempts.set(request.n, null)
        return { kind: 'claimed' }
      },
    },
    check,
    async call(input) {
      calls.push(input.target.provider)
      const behaviour = behaviours[calls.length - 1] ?? failure('server_error')
      return typeof behaviour === 'function' ? behaviour(input) : behaviour
    },
    settle: {
      priceAttempt: ({ n, outcome, usage, error, finishReason }: EndedAttempt) => ({
        n,
        outcome,
        usage,
        costUsd: null,
        ...(error && { error }),
        ...(finishReason && { finishReason }),
      }),
      async finish(ending) {
        endings.push(ending)
        settle(ending.settlement)
        return { ended: true }
      },
      async requeue(_, request) {
        requeues.push(request)
        settle(request.settlement)
        return task.epoch + 1
      },
    },
    metrics: {
      stageSeconds: new Histogram({ name: 'stages', help: 'stages', labelNames: ['stage', 'kind'], registers: [] }),
    } as never,
    tools: { runQuery: null },
    claimRegistry,
    store: async task => void stored.push(task),
    answerMemory: createAnswerMemory(1_000_000),
    draining: () => false,
    maxAttempts: 5,
    backoff: { baseMs: 500, maxMs: 30_000 },
    logger,
    ...options.deps,
  }
  const { run, runNew } = createRunner(deps)
  return {
    run: () => run({ id: task.id, epoch: task.epoch }),
    runNew,
    task,
    calls,
    log,
    claims,
    nexts,
    requeues,
    endings,
    attempts,
    stored,
    claimRegistry,
    admission,
    deps,
  }
}

/** A task whose answer must be an object with `n`. */
export const STRICT = { input: { prompt: 'Hi', schema: { required: ['n'] } } }
