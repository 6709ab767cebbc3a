import { setTimeout as sleep } from 'node:timers/promises'
import type { Gate } from '#shared/gate/gate.ts'
import { NEUTRAL_OUTCOMES } from '#shared/gate/outcomes.ts'
import { type AcquireRequest, type CallOutcome, GateUnavailable, type Permit } from '#shared/gate/types.ts'
import { every } from '#shared/lifecycle.ts'
import type { Logger } from '#shared/logger.ts'
import type { Metrics } from '#shared/metrics.ts'
import type { Candidate } from '#shared/routing.ts'

/** Leave to make one call. To be reported or released, once; what becomes of that is nobody's concern. */
export type Pass = {
  /** To be asked right before the call; false: the permit has expired, it is to be released. */
  start(): boolean
  /** A call that takes longer is to be told by `slow`. */
  slowAfterMs: number
  slow(): void
  report(outcome: CallOutcome): void
  /** No call was made with it. */
  release(): void
}

/**
 * `go`: call now. `wait`: a place is kept, come back after `ms`. `closed`: nothing is kept, ask again after `ms`, and, if it
 * is `bookable`, then or before with the leave to wait. `never`: the request alone is more than the limit.
 */
export type Admission =
  | { kind: 'go'; pass: Pass }
  | { kind: 'wait'; ms: number }
  | { kind: 'closed'; ms: number; bookable: boolean }
  | { kind: 'never'; limit: string }

export type AdmitRequest = {
  id: string
  candidate: Candidate
  /** Upper bounds. */
  inputTokens: number
  outputTokens: number
  /** For how long a place may be kept, milliseconds; 0: now or not at all. */
  maxWaitMs: number
  lane: AcquireRequest['lane']
  /** The job to be woken when a place has become free. */
  wake: string
}

export type Admit = {
  admit(request: AdmitRequest): Promise<Admission>
  /** Stops renewing; what is still held expires. */
  stop(): Promise<void>
}

const RENEW_MS = 5000
/** Waits this short are spent here; longer ones give the task back. */
const SHORT_MS = 50
const SHORT_WAITS = 3
/** How soon to ask again when Redis could not be asked. */
const AWAY_MS = 1000

/** Admission to a provider's model, by the gate that the whole fleet shares. */
export function createAdmission(deps: {
  gate: Pick<Gate, 'acquire' | 'report' | 'release' | 'slow' | 'renew'>
  /** Runs delayed jobs now. */
  wake: (jobIds: string[]) => Promise<void>
  metrics: Pick<Metrics, 'permitWaits'>
  logger: Logger
}): Admit {
  const { gate, wake, metrics, logger } = deps
  /** With whether its call has begun: one that never does must not be kept alive, a worker that has lost Postgres has many. */
  const held = new Map<Permit, boolean>()
  const unnoticed = (what: string) => (error: unknown) => {
    // The lease expires by itself, and what was booked is an upper bound.
    if (error instanceof GateUnavailable) logger.debug({ err: error }, `${what}: the gate is away`)
    else logger.error({ err: error }, `${what} failed`)
  }
  const stopRenewing = every(
    RENEW_MS,
    () => gate.renew([...held].flatMap(([permit, begun]) => (begun ? [permit] : []))),
    unnoticed('renewing permits'),
  )

  function passOf(permit: Permit): Pass {
    held.set(permit, false)
    const done = (what: string, work: Promise<string[]>) => {
      held.delete(permit)
      work.then(jobs => (jobs.length > 0 ? wake(jobs) : undefined)).catch(unnoticed(what))
    }
    return {
      start() {
        if (performance.now() >= permit.validUntil) return false
        held.set(permit, true)
        return true
      },
      slowAfterMs: permit.slowAfterMs,
      slow: () => void gate.slow(permit).catch(unnoticed('telling of a slow call')),
      report: outcome => done('reporting a call', gate.report(permit, outcome)),
      release: () => done('releasing a permit', gate.release(permit)),
    }
  }

  async function once({ candidate, ...request }: AdmitRequest): Promise<Admission> {
    try {
      const decision = await gate.acquire({ ...request, ...candidate })
      if (decision.kind === 'go') return { kind: 'go', pass: passOf(decision.permit) }
      if (decision.kind === 'never') return decision
      metrics.permitWaits.inc({ provider: candidate.provider, reason: decision.reason })
      if (decision.kind === 'wait') return { kind: 'wait', ms: decision.ms }
      return { kind: 'closed', ms: decision.ms, bookable: decision.reason === 'late' }
    } catch (error) {
      if (!(error instanceof GateUnavailable)) throw error
      logger.debug({ err: error }, 'the gate is away')
      return { kind: 'closed', ms: AWAY_MS, bookable: false }
    }
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

/** What a call says of the provider. */
const NEUTRAL: ReadonlySet<string> = new Set(NEUTRAL_OUTCOMES)
export const resultOf = (failure: string): CallOutcome['result'] => (NEUTRAL.has(failure) ? 'neutral' : 'failure')
