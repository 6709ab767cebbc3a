import type { HeaderLimits } from '#shared/gate/types.ts'

export { isCount, reasoningOf, tokens } from '#shared/models/token-counts.ts'

import { now } from '#shared/process/clock.ts'
import { type StreamEvent, textOfParts } from '#shared/requests/answer.ts'
import type { AssistantPart } from '#shared/requests/request.ts'
import { type CallAnswer, type CallContext, CallFailure, type EmbedAnswer, type Usage } from './define.ts'
import { failedToConnect, toCallFailure, watchConnections } from './failures.ts'
import type { ReadLimits } from './rate-limits.ts'
import { type TrackedCall, trackCall } from './transport.ts'

/** The state of one call, for its adapter. */
export type Call = {
  /** Aborted by the caller or by the timeout. */
  signal: AbortSignal
  /** For the timer of the SDK, which cannot be switched off. It ends later than ours, so that ours decides. */
  sdkTimeoutMs: number
  streaming: boolean
  /** Passes a piece of the answer to the caller, unless the call has ended. */
  emit(event: StreamEvent): void
  /** Set it at the first part of an answer, even without text: from then on the provider bills its output. */
  begun: boolean
  /**
   * Set it when the provider reports the usage of the whole answer; a call that fails later is then charged for it. Do
   * not set intermediate counts, which are lower than the bill. If it is null, the call is charged at its reservation.
   */
  usage: Usage | null
}

/** The results of adapters. `guarded` adds the limits. */
export type Answer = Omit<CallAnswer, 'limits'>
export type Vectors = Omit<EmbedAnswer, 'limits'>

/**
 * Runs one call within its timeout and the signal of its caller, and turns every error into a CallFailure. SDK timeouts
 * end at the headers, and a stream may ignore its signal while it waits for the next chunk. Hence the race: the caller
 * gets its slot back at once, and the connection closes afterwards.
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
    streaming: context.onEvent !== undefined,
    emit: event => {
      if (!controller.signal.aborted) context.onEvent?.(event)
    },
    begun: false,
    usage: null,
  }
  const carried: TrackedCall = {
    signal: controller.signal,
    streaming: call.streaming,
    fetched: false,
    traceparent: context.traceparent,
    heard: headers => {
      limits = readLimits(headers, now())
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
    const answer = await Promise.race([trackCall(carried, () => run(call)), stopped.promise])
    return { ...answer, limits }
  } catch (error) {
    const failure = toCallFailure(error, call.usage)
    const { headers } = Object(error) as { headers?: unknown }
    failure.limits = headers instanceof Headers ? readLimits(headers, now()) : limits
    failure.sent = carried.fetched && !failedToConnect(error)
    failure.begun ||= call.begun
    throw failure
  } finally {
    clearTimeout(timer)
    context.signal.removeEventListener('abort', abort)
  }
}

/**
 * The last check of every answer: an answer that ended normally must have text or a tool call. One that was cut off or
 * refused may be empty.
 * @throws CallFailure bad_response
 */
export function assertAnswered(answer: Answer): Answer {
  const empty =
    !answer.original && textOfParts(answer.parts) === '' && !answer.parts.some(one => one.type === 'tool_call')
  if (empty && answer.finishReason === 'stop') throw new CallFailure('bad_response', 'The answer has no text', answer)
  return answer
}

/** The parts of an answer that is only text. */
export const textParts = (text: string): AssistantPart[] => (text === '' ? [] : [{ type: 'text', text }])

/**
 * Checks that the value is a list of lists of numbers. The kind checks their count and contents. @throws CallFailure
 * bad_response
 */
export function vectorsOf(value: unknown, usage: Usage | null): number[][] {
  if (!Array.isArray(value) || !value.every(one => Array.isArray(one) && one.every(n => typeof n === 'number')))
    throw new CallFailure('bad_response', 'The answer has no vectors', { usage })
  return value
}

/**
 * The system prompt for providers or schemas without constrained decoding. The kind's check validates the answer in any
 * case.
 */
export function schemaInstruction(system: string | undefined, schema: Record<string, unknown>): string {
  const instruction = `Answer with JSON only, without a code fence, that matches this JSON Schema:\n${JSON.stringify(schema)}`
  return system ? `${system}\n\n${instruction}` : instruction
}
