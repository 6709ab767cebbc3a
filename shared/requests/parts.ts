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
