import type { Target } from './target.ts'
import type {
  AcquireRequest,
  CallOutcome,
  Decision,
  GateLimits,
  GatePermit,
  HeaderLimit,
  HeaderLimits,
  LimitName,
  SeedData,
  TargetState,
} from './types.ts'

/** The encoding of operations and answers for the script (main.lua). */

/** From the moment the script answered. The window's slack allows for it: see gate.ts. */
export const VALID_FOR_MS = 1000
/** Of a sub-window; SUB in state.lua. */
const SUB_MS = 500

export type Arg = string | number

const LIMITS: LimitName[] = ['rpm', 'tpm', 'itpm', 'otpm', 'concurrency']
const WAIT_REASONS = ['rate', 'concurrency'] as const
const CLOSED_REASONS = ['breaker', 'pause', 'late', 'batch'] as const
const BREAKER_STATES = ['closed', 'open', 'half_open'] as const

/** Converts a number from a caller or a provider to one that the script can count with. */
const whole = (n: number) => (n > 0 ? Math.min(Math.ceil(n), 1e12) : 0)
const orEmpty = (n: number | null) => (n === null ? '' : whole(n))
const orNone = (n: number | null | undefined) => (n === null || n === undefined ? -1 : whole(n))

export const limitArgs = (limits: GateLimits | null): Arg[] =>
  limits
    ? [limits.version, ...LIMITS.map(name => (limits[name] === null ? -1 : Math.max(0, Math.floor(limits[name]))))]
    : [-1, -1, -1, -1, -1, -1]

export const acquireArgs = (request: AcquireRequest, lease: string): Arg[] => [
  'a',
  request.id,
  lease,
  whole(request.inputTokens),
  whole(request.outputTokens),
  whole(request.maxWaitMs),
  request.lane === 'batch' ? 'b' : 'n',
  request.wake,
]

export const reportArgs = (permit: GatePermit, outcome: CallOutcome): Arg[] => {
  const { generation, sub, inputTokens, outputTokens, epoch } = permit.booked
  return [
    'r',
    permit.id,
    permit.lease,
    generation,
    sub,
    inputTokens,
    outputTokens,
    epoch,
    outcome.result[0]!,
    whole(outcome.latencyMs),
    orEmpty(outcome.inputTokens),
    orEmpty(outcome.outputTokens),
    orEmpty(outcome.retryAfterMs),
    outcome.headers ? headersArg(outcome.headers) : '',
  ]
}

const headersArg = (headers: HeaderLimits) => {
  const numbers = (one: HeaderLimit | undefined) =>
    one ? [orNone(one.limit), orNone(one.remaining), one.resetMs === null ? 1e9 : whole(one.resetMs)] : [-1, -1, 0]
  return JSON.stringify(
    [headers.requests, headers.tokens, headers.inputTokens, headers.outputTokens].flatMap(one => numbers(one)),
  )
}

export const releaseArgs = ({ id, lease, booked }: GatePermit): Arg[] => [
  'u',
  id,
  lease,
  booked.generation,
  booked.sub,
  booked.inputTokens,
  booked.outputTokens,
]

export const slowArgs = ({ id, lease, booked }: GatePermit): Arg[] => ['w', id, lease, booked.generation, booked.epoch]
export const renewArgs = ({ id, lease, booked }: GatePermit): Arg[] => ['n', id, lease, booked.generation]
export const setLimitsArgs = (limits: GateLimits): Arg[] => ['l', ...limitArgs(limits)]
export const HALF_OPEN_ARGS: Arg[] = ['h']
export const DESCRIBE_ARGS: Arg[] = ['d']

/** Calls are grouped by sub-window of their age, rounded down: a call counts a little longer, never shorter. */
export function seedArgs(mark: string, data: SeedData): Arg[] {
  const byAge = new Map<number, [requests: number, input: number, output: number]>()
  for (const call of data.calls) {
    const age = Math.floor(Math.max(0, call.ageMs) / SUB_MS) * SUB_MS
    const sums = byAge.get(age) ?? [0, 0, 0]
    byAge.set(age, [sums[0] + 1, sums[1] + whole(call.inputTokens), sums[2] + whole(call.outputTokens)])
  }
  return [
    's',
    mark,
    byAge.size,
    ...[...byAge].flatMap(([age, sums]) => [age, ...sums]),
    data.open.length,
    ...data.open.map(one => one.id),
  ]
}

export function decisionOf(
  answer: number[],
  permit: (sub: number, epoch: number, slowAfterMs: number) => GatePermit,
): Decision {
  const [kind, a, b, c] = answer as [number, number, number, number]
  if (kind === 1) return { kind: 'go', permit: permit(a, b, c) }
  if (kind === 2) return { kind: 'wait', ms: a, reason: WAIT_REASONS[b - 1]! }
  if (kind === 3) return { kind: 'closed', ms: a, reason: CLOSED_REASONS[b - 1]! }
  return { kind: 'never', limit: LIMITS[a - 1]! }
}

export function stateOf(target: Target, answer: number[], limits: GateLimits | null): TargetState {
  const seeded = answer.length > 0
  const at = (index: number) => answer[index] ?? 0
  const known = (n: number) => (n < 0 ? null : n)
  const usage = (index: number) => ({
    used: at(7 + index),
    limit: seeded ? known(at(12 + index)) : (limits?.[LIMITS[index]!] ?? null),
  })
  return {
    target,
    seeded,
    breaker: BREAKER_STATES[at(0)]!,
    retryMs: at(1),
    pauseMs: at(2),
    successRate: seeded ? at(3) / 1e6 : 1,
    health: seeded ? at(4) / 1e6 : 1,
    latencyMs: seeded ? known(at(5)) : null,
    p95Ms: seeded ? known(at(6)) : null,
    rpm: usage(0),
    tpm: usage(1),
    itpm: usage(2),
    otpm: usage(3),
    concurrency: usage(4),
    waiters: at(17),
    bookings: at(18),
  }
}
