import type { AssistantPart, ChatRequest, ImagePart, UserPart } from './request.ts'

/** A part of a message, or of a tool result. */
export type AnyPart = UserPart | AssistantPart

/** All parts of a request in their order, those in tool results after the result. Messages that are only text have none. */
export const partsOf = ({ messages }: Pick<ChatRequest, 'messages'>): AnyPart[] =>
  messages.flatMap(({ content }) =>
    typeof content === 'string'
      ? []
      : (content as AnyPart[]).flatMap(one =>
          one.type === 'tool_result' && typeof one.content !== 'string' ? [one, ...one.content] : [one],
        ),
  )

export const imagesOf = (request: Pick<ChatRequest, 'messages'>): ImagePart[] =>
  partsOf(request).filter(one => one.type === 'image')

/** The request with other images, including those in tool results. */
export function mapImages(request: ChatRequest, map: (image: ImagePart) => ImagePart): ChatRequest {
  const mapped = <P extends { type: string }>(part: P): P =>
    part.type === 'image' ? (map(part as P & ImagePart) as P & ImagePart) : part
  return {
    ...request,
    messages: request.messages.map(message => {
      if (message.role !== 'user' || typeof message.content === 'string') return message
      const content = message.content.map(part =>
        part.type === 'tool_result' && typeof part.content !== 'string'
          ? { ...part, content: part.content.map(mapped) }
          : mapped(part),
      )
      return { ...message, content }
    }),
  }
}
