import type { HeaderLimits } from '#shared/gate/types.ts'
import { type CallAnswer, type CallContext, CallFailure, type EmbedAnswer, type Usage } from './define.ts'
import { failedToConnect, toCallFailure, watchConnections } from './failures.ts'
import type { ReadLimits } from './rate-limits.ts'
import { type Carried, carry } from './transport.ts'

/** What an adapter gets to make one call with. */
export type Call = {
  /** Aborted by the caller or by the time limit. */
  signal: AbortSignal
  /** For the SDK's own timer, which cannot be switched off: later than ours, so that ours decides. */
  sdkTimeoutMs: number
  streaming: boolean
  /** Passes text on, unless the call is over. */
  emit(text: string): void
  /** Set once the provider says anything of an answer, be it no text: what it writes is billed, whatever comes then. */
  begun: boolean
  /**
   * Set once the provider reports what the whole answer used, so that a call that fails later is charged for that. Counts of a
   * stream that goes on are less than what is billed, and are not to be put here: null is charged at the reservation.
   */
  usage: Usage | null
}

/** What an adapter makes of an answer; the rest is the guard's. */
export type Answer = Omit<CallAnswer, 'limits'>
export type Vectors = Omit<EmbedAnswer, 'limits'>

/**
 * Runs one call within its time limit and its caller's signal, and turns every failure into a CallFailure.
 * SDK timeouts end at the headers, and a stream may ignore its signal while it waits for the next chunk, hence the
 * race: the caller gets its slot back at once, and the connection is closed behind it.
 */
export async function guarded<Made extends object = Answer>(
  context: CallContext,
  run: (call: Call) => Promise<Made>,
  readLimits: ReadLimits = () => null,
): Promise<Made & Pick<CallAnswer, 'limits'>> {
  const sent = false
  if (context.signal.aborted) throw new CallFailure('aborted', 'Aborted before the call was made', { sent })
  if (context.timeoutMs <= 0) throw new CallFailure('timeout', 'No time was left to make the call', { sent })
  watchConnections()
  let limits: HeaderLimits | null = null
  const controller = new AbortController()
  const stopped = Promise.withResolvers<never>()
  const call: Call = {
    signal: controller.signal,
    sdkTimeoutMs: Math.ceil(context.timeoutMs) + 1000,
    streaming: context.onDelta !== undefined,
    emit: text => {
      if (!controller.signal.aborted && text) context.onDelta?.(text)
    },
    begun: false,
    usage: null,
  }
  const carried: Carried = {
    signal: controller.signal,
    streaming: call.streaming,
    fetched: false,
    traceparent: context.traceparent,
    heard: headers => {
      limits = readLimits(headers, Date.now())
    },
  }
  const stop = (kind: 'aborted' | 'timeout', message: string) => {
    stopped.reject(new CallFailure(kind, message, { usage: call.usage }))
    controller.abort()
  }
  const abort = () => stop('aborted', 'The call was aborted')
  const timer = setTimeout(stop, context.timeoutMs, 'timeout', `No complete answer within ${context.timeoutMs} ms`)
  context.signal.addEventListener('abort', abort, { once: true })
  try {
    const answer = await Promise.race([carry(carried, () => run(call)), stopped.promise])
    return { ...answer, limits }
  } catch (error) {
    const failure = toCallFailure(error, call.usage)
    const { headers } = Object(error) as { headers?: unknown }
    failure.limits = headers instanceof Headers ? readLimits(headers, Date.now()) : limits
    failure.sent = carried.fetched && !failedToConnect(error)
    failure.begun ||= call.begun
    throw failure
  } finally {
    clearTimeout(timer)
    context.signal.removeEventListener('abort', abort)
  }
}

/**
 * The last check of every answer. A model that ends regularly without a word has not answered; one that was cut off or
 * refused may well have nothing to say.
 */
export function answered(answer: Answer): Answer {
  if (answer.text === '' && answer.stop === 'end')
    throw new CallFailure('bad_response', 'The answer has no text', answer)
  return answer
}

/** What is no list of lists of numbers is no answer; how many there are, and what they say, is for the kind to judge. */
export function vectorsOf(value: unknown, usage: Usage | null): number[][] {
  if (!Array.isArray(value) || !value.every(one => Array.isArray(one) && one.every(n => typeof n === 'number')))
    throw new CallFailure('bad_response', 'The answer has no vectors', { usage })
  return value
}

/** For providers or schemas without constrained decoding; `check` validates the answer either way. */
export function schemaInstruction(system: string | undefined, schema: Record<string, unknown>): string {
  const instruction = `Answer with JSON only, without a code fence, that matches this JSON Schema:\n${JSON.stringify(schema)}`
  return system ? `${system}\n\n${instruction}` : instruction
}

/** What no call can use: more is garbage, and must not keep the answer from being stored. */
const MOST_TOKENS = 1e12

/** A token count as providers send it: a number, or absent or null where it does not apply. */
export const tokens = (count: unknown): number =>
  typeof count === 'number' && Number.isFinite(count) && count > 0 ? Math.round(Math.min(count, MOST_TOKENS)) : 0
