import type { AssistantPart, Message, UserPart } from './request.ts'

/** The text of a message, without media, reasoning and tool calls. */
export const messageText = ({ content }: Message): string =>
  typeof content === 'string' ? content : (content as (UserPart | AssistantPart)[]).map(partText).join('\n')

function partText(part: UserPart | AssistantPart): string {
  switch (part.type) {
    case 'text':
    case 'refusal':
      return part.text
    case 'document':
      return part.source.kind === 'text' ? part.source.text : ''
    case 'tool_result':
      return typeof part.content === 'string' ? part.content : part.content.map(partText).join('\n')
    default:
      return ''
  }
}
