import type { FastifyReply, FastifyRequest } from 'fastify'
import { SluiceError } from '#shared/errors.ts'
import { toWire } from '#shared/ids.ts'
import type { StreamEvent } from '#shared/requests/answer.ts'
import type { Wire } from '#shared/requests/request.ts'
import { type StoredRequest, wholeBody } from '#shared/requests/stored.ts'
import { type AnswerContext, isFault, type ParsedRequest, type StreamRenderer } from '#shared/requests/wire.ts'
import { wireFormat } from '#shared/requests/wires.ts'
import type { ApiDeps } from '../deps.ts'
import { toSluiceError } from '../http/errors.ts'
import { assertDepth, assertStorable } from '../http/stored-values.ts'
import { createEventOutput } from './event-output.ts'
import { runLive } from './run-live.ts'

export type LiveOptions = {
  wire: Wire
  /** The items of the conversation that the request continues. */
  before?: unknown[] | undefined
  /** See the column `stored` of `tasks`. */
  stored?: boolean
  metadata?: Record<string, unknown> | null
  /** The call continues when the client leaves. */
  finish?: boolean
}

/** Reads a request in a wire format. @throws SluiceError invalid_request, naming the parameter */
export function readLive(request: StoredRequest): ParsedRequest {
  assertDepth(request.body, '')
  assertStorable(request.body)
  const parsed = wireFormat(request.wire).parse(wholeBody(request))
  if (!isFault(parsed)) return parsed
  throw new SluiceError('invalid_request', parsed.message, { context: { param: parsed.param, code: parsed.code } })
}

/** Answers a request in a wire format, whole or as a stream. */
export async function answerLive(
  deps: ApiDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  {
    wire,
    before,
    stored,
    metadata = null,
    finish = request.headers['x-sluice-on-disconnect'] === 'finish',
  }: LiveOptions,
): Promise<unknown> {
  const body = request.body as Record<string, unknown>
  const original = { wire, body, ...(before && { before }) }
  const parsed = readLive(original)
  const format = wireFormat(wire)
  const onLost = (names: string[]) => {
    const { 'x-sluice-lost': _, ...others } = headers
    headers = names.length === 0 ? others : { ...others, 'x-sluice-lost': [...new Set(names)].join(', ') }
  }
  const live = { original, parsed, metadata, finish, onLost, ...(stored !== undefined && { stored }) }
  let context: AnswerContext | null = null
  let renderer: StreamRenderer | null = null
  let headers: Record<string, string> = {}
  const begin = ({ id, createdAt }: { id: string; createdAt: number }) => {
    context = { id: id.replaceAll('-', ''), created: createdAt, body }
    renderer = parsed.stream ? format.renderStream(context) : null
    headers = { ...headers, 'x-sluice-task-id': toWire('task', id) }
  }
  if (!parsed.stream) {
    const { answer } = await runLive(deps, request, reply, live, begin)
    return reply.headers(headers).send(format.renderAnswer(answer, context!))
  }
  const output = createEventOutput(request, reply, () => headers)
  const onEvent = (event: StreamEvent) => output.write(renderer!.write(event))
  try {
    const { answer } = await runLive(deps, request, reply, { ...live, onEvent }, begin)
    output.write(renderer!.end(answer))
  } catch (error) {
    if (!output.begun) throw error
    const { code, message } = toSluiceError(error as Parameters<typeof toSluiceError>[0])
    output.write(renderer!.fail({ code, message }))
  }
  output.end()
  return reply
}
