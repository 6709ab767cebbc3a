import { type Target, targetName } from '#shared/gate/target.ts'
import type { CallOutcome, GateLimits } from '#shared/gate/types.ts'
import type { AdmitRequest, AdmitResult, Permit } from './admit.ts'

const WINDOW_MS = 60_000
const SLOW_AFTER_MS = 60_000
/** How soon to retry when all slots are taken. */
const BUSY_MS = 200

type Call = { at: number; inputTokens: number; outputTokens: number }
type State = { calls: Call[]; running: number }

/**
 * Applies the limits of a target to the calls of this process alone, while the gate is unavailable: a sliding minute, and the calls that
 * run. A fleet of n processes may then make n times as many calls.
 * @param limitsOf throws GateUnavailable until the limits have been read
 */
export function createProcessLimits(limitsOf: (target: Target) => GateLimits, now = () => performance.now()) {
  const states = new Map<string, State>()

  function stateOf(target: Target): State {
    const name = targetName(target)
    const state = states.get(name) ?? { calls: [], running: 0 }
    states.set(name, state)
    const from = now() - WINDOW_MS
    while (state.calls.length > 0 && state.calls[0]!.at <= from) state.calls.shift()
    return state
  }

  function permitOf(state: State, call: Call): Permit {
    state.calls.push(call)
    state.running++
    let open = true
    const close = () => {
      if (open) state.running--
      open = false
    }
    return {
      start: () => true,
      slowAfterMs: SLOW_AFTER_MS,
      slow: () => undefined,
      report({ inputTokens, outputTokens }: CallOutcome) {
        close()
        call.inputTokens = inputTokens ?? call.inputTokens
        call.outputTokens = outputTokens ?? call.outputTokens
      },
      release() {
        close()
        const index = state.calls.indexOf(call)
        if (index >= 0) state.calls.splice(index, 1)
      },
    }
  }

  /** `go`, `never`, or `closed` until the call may fit. */
  return ({ target, inputTokens, outputTokens }: AdmitRequest): AdmitResult => {
    const limits = limitsOf(target)
    const state = stateOf(target)
    const both = inputTokens + outputTokens
    const input = sum(state.calls, one => one.inputTokens)
    const output = sum(state.calls, one => one.outputTokens)
    const wanted = [
      { limit: 'rpm', max: limits.rpm, used: state.calls.length, more: 1 },
      { limit: 'tpm', max: limits.tpm, used: input + output, more: both },
      { limit: 'itpm', max: limits.itpm, used: input, more: inputTokens },
      { limit: 'otpm', max: limits.otpm, used: output, more: outputTokens },
      { limit: 'concurrency', max: limits.concurrency, used: state.running, more: 1 },
    ]
    const exceeded = wanted.filter(one => one.max !== null && one.used + one.more > one.max)
    const alone = exceeded.find(one => one.more > one.max!)
    if (alone) return { kind: 'never', limit: alone.limit }
    if (exceeded.length === 0) return { kind: 'go', permit: permitOf(state, { at: now(), inputTokens, outputTokens }) }
    const rate = exceeded.some(one => one.limit !== 'concurrency')
    const ms = rate && state.calls[0] ? Math.ceil(state.calls[0].at + WINDOW_MS - now()) : BUSY_MS
    return { kind: 'closed', ms: Math.max(1, ms), bookable: false }
  }
}

const sum = (calls: Call[], tokens: (call: Call) => number) => calls.reduce((total, call) => total + tokens(call), 0)
