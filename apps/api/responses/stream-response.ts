import type { FastifyReply, FastifyRequest } from 'fastify'
import { isTerminal } from '#shared/db/tasks/row.ts'
import { toWire } from '#shared/ids.ts'
import { answerEvents, eventsWithoutAnswer, renderRepeatableStream } from '#shared/requests/openai-responses/stream.ts'
import type { ApiDeps } from '../deps.ts'
import { toSluiceError } from '../http/errors.ts'
import { whenClosed } from '../http/when-closed.ts'
import { createEventOutput } from '../live/event-output.ts'
import { followTask } from '../live/follow-task.ts'
import { answerOfView } from '../live/stored-answer.ts'
import { type OwnResponse, responseJson } from './own-response.ts'

const DAY_MS = 86_400_000

/**
 * Sends the events of a response: from the live stream while it runs, otherwise made again from its result, with the same sequence
 * numbers. A client that leaves does not stop the response.
 * @param after the sequence number of the last event that the client has; null: none
 * @throws SluiceError too_many_streams
 */
export async function streamResponse(
  deps: ApiDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  response: OwnResponse,
  after: number | null,
): Promise<FastifyReply> {
  const { view, context } = response
  whenClosed(reply.raw, deps.streams.enter(request.apiKey.id))
  const output = createEventOutput(request, reply, () => ({ 'x-sluice-task-id': toWire('task', view.id) }))
  let sequence = 0
  /** The position of an event is its sequence number. */
  const send = (frames: string[]) => output.write(frames.filter(() => sequence++ > (after ?? -1)).join(''))
  output.begin()
  if (isTerminal(view.status)) {
    send(
      view.status === 'succeeded'
        ? answerEvents(answerOfView(view), context)
        : eventsWithoutAnswer(responseJson(response), context),
    )
    output.end()
    return reply
  }
  const renderer = renderRepeatableStream(context)
  const write = (frames: string) => send(frames.split(/(?<=\n\n)/).filter(frame => frame !== ''))
  const leaving = new AbortController()
  reply.raw.once('close', () => leaving.abort())
  write(renderer.begin())
  try {
    const ended = await followTask(deps, view.id, {
      onEvent: event => write(renderer.write(event)),
      signal: leaving.signal,
      deadlineMs: DAY_MS,
      cancels: false,
    })
    write(renderer.end(answerOfView(ended)))
  } catch (error) {
    const { code, message } = toSluiceError(error as Parameters<typeof toSluiceError>[0])
    write(renderer.fail({ code, message }))
  }
  output.end()
  return reply
}
