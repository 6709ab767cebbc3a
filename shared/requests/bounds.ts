import { upperBoundTokens } from '#shared/models/tokens.ts'
import type { ChatRequest } from './request.ts'
import { messageText } from './text.ts'

/** An upper bound of the input tokens of a request. */
export const inputTokenBound = ({ system, messages, schema }: ChatRequest): number =>
  upperBoundTokens({ system, messages: messages.map(one => ({ content: messageText(one) })), schema })
