import { setTimeout as sleep } from 'node:timers/promises'
import type { Gate } from '#shared/gate/gate.ts'
import { NEUTRAL_OUTCOMES } from '#shared/gate/outcomes.ts'
import type { Target } from '#shared/gate/target.ts'
import { type AcquireRequest, type CallOutcome, type GatePermit, GateUnavailable } from '#shared/gate/types.ts'
import type { Metrics } from '#shared/metrics/metrics.ts'
import { repeatEvery } from '#shared/process/lifecycle.ts'
import type { Logger } from '#shared/process/logger.ts'

/** Permission to make one call. Report it or release it, once; errors of that are logged. */
export type Permit = {
  /** Call it right before the call; false: the permit has expired, release it. */
  start(): boolean
  /** Call `slow` if the call still runs after this time. */
  slowAfterMs: number
  slow(): void
  report(outcome: CallOutcome): void
  /** No call was made with it. */
  release(): void
}

/**
 * `go`: call now. `wait`: a slot is booked, try again after `ms`. `closed`: nothing is booked, try again after `ms`, or, if
 * `bookable`, at once with `maxWaitMs`. `down`: the circuit breaker is open. `never`: the request alone exceeds the limit.
 */
export type AdmitResult =
  | { kind: 'go'; permit: Permit }
  | { kind: 'wait'; ms: number }
  | { kind: 'closed'; ms: number; bookable: boolean; down?: boolean }
  | { kind: 'never'; limit: string }

export type AdmitRequest = {
  id: string
  target: Target
  /** Upper bounds. */
  inputTokens: number
  outputTokens: number
  /** The latest slot to book, milliseconds from now; 0: book none. */
  maxWaitMs: number
  lane: AcquireRequest['lane']
  /** The job to wake when a slot becomes free. */
  wake: string
}

export type Admission = {
  admit(request: AdmitRequest): Promise<AdmitResult>
  /** Stops renewing; leases that are still held expire. */
  stop(): Promise<void>
}

const RENEW_MS = 5000
/** Shorter waits are spent here; longer ones requeue the task. */
const SHORT_MS = 50
const SHORT_WAITS = 3
/** How soon to retry when Redis is unavailable. */
const GATE_UNAVAILABLE_MS = 1000
/** A half-open breaker answers with shorter waits: a probe is already running. */
const HALF_OPEN_MS = 1000

/** Admission to a target, by the gate that all processes share. */
export function createAdmission(deps: {
  gate: Pick<Gate, 'acquire' | 'report' | 'release' | 'slow' | 'renew'>
  /** Promotes delayed jobs. */
  wake: (jobIds: string[]) => Promise<void>
  /** Records a job that waits for an open breaker. */
  park: (target: Target, job: string) => void
  /** Decides while the gate is unavailable; absent: calls then wait for the gate. */
  processLimits?: ((request: AdmitRequest) => AdmitResult) | undefined
  metrics: Pick<Metrics, 'permitWaits'>
  logger: Logger
}): Admission {
  const { gate, wake, park, processLimits, metrics, logger } = deps
  /** Permits, and whether the call has begun. Others are not renewed: a worker without Postgres may hold many. */
  const held = new Map<GatePermit, boolean>()
  const logFailure = (what: string) => (error: unknown) => {
    // The lease expires by itself, and the booking is an upper bound.
    if (error instanceof GateUnavailable) logger.debug({ err: error }, `${what}: the gate is unavailable`)
    else logger.error({ err: error }, `${what} failed`)
  }
  const stopRenewing = repeatEvery(
    RENEW_MS,
    () => gate.renew([...held].flatMap(([permit, begun]) => (begun ? [permit] : []))),
    logFailure('renewing permits'),
  )

  function toPermit(permit: GatePermit): Permit {
    held.set(permit, false)
    const done = (what: string, work: Promise<string[]>) => {
      held.delete(permit)
      work.then(jobs => (jobs.length > 0 ? wake(jobs) : undefined)).catch(logFailure(what))
    }
    return {
      start() {
        if (performance.now() >= permit.validUntil) return false
        held.set(permit, true)
        return true
      },
      slowAfterMs: permit.slowAfterMs,
      slow: () => void gate.slow(permit).catch(logFailure('reporting a slow call')),
      report: outcome => done('reporting a call', gate.report(permit, outcome)),
      release: () => done('releasing a permit', gate.release(permit)),
    }
  }

  async function once({ target, ...request }: AdmitRequest): Promise<AdmitResult> {
    try {
      const decision = await gate.acquire({ ...request, ...target })
      if (decision.kind === 'go') return { kind: 'go', permit: toPermit(decision.permit) }
      if (decision.kind === 'never') return decision
      metrics.permitWaits.inc({ provider: target.provider, reason: decision.reason })
      if (decision.kind === 'wait') return { kind: 'wait', ms: decision.ms }
      const down = decision.reason === 'breaker' && decision.ms > HALF_OPEN_MS
      // A batch line waits in its chunk, which retries by itself.
      if (down && request.lane !== 'batch') park(target, request.wake)
      return { kind: 'closed', ms: decision.ms, bookable: decision.reason === 'late', down }
    } catch (error) {
      if (!(error instanceof GateUnavailable)) throw error
      logger.debug({ err: error }, 'the gate is unavailable')
      return withoutGate({ target, ...request })
    }
  }

  function withoutGate(request: AdmitRequest): AdmitResult {
    try {
      if (processLimits) return processLimits(request)
    } catch (error) {
      if (!(error instanceof GateUnavailable)) throw error
    }
    return { kind: 'closed', ms: GATE_UNAVAILABLE_MS, bookable: false }
  }

  return {
    async admit(request) {
      let admission = await once(request)
      for (let n = 0; n < SHORT_WAITS && admission.kind === 'wait' && admission.ms <= SHORT_MS; n++) {
        await sleep(admission.ms)
        admission = await once(request)
      }
      return admission
    },
    stop: stopRenewing,
  }
}

const NEUTRAL: ReadonlySet<string> = new Set(NEUTRAL_OUTCOMES)
export const gateResult = (failure: string): CallOutcome['result'] => (NEUTRAL.has(failure) ? 'neutral' : 'failure')
