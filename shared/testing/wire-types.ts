import type Anthropic from '@anthropic-ai/sdk'
import type OpenAI from 'openai'

/**
 * What the providers' APIs answer, in the types of their SDKs, which are generated from the providers' own descriptions.
 * `wire-schemas.ts` makes JSON Schemas of them.
 */
export type WireTypes = {
  openAiCompletion: OpenAiCompletion
  openAiChunk: OpenAiChunk
  openAiTextCompletion: OpenAiTextCompletion
  openAiResponse: OpenAiResponse
  openAiResponseEvent: OpenAiResponseEvent
  openAiModel: OpenAiModel
  openAiConversation: OpenAiConversation
  openAiConversationItem: OpenAiConversationItem
  openAiResponseItem: OpenAiResponseItem
  anthropicMessage: AnthropicMessage
  anthropicEvent: AnthropicEvent
  anthropicTokensCount: AnthropicTokensCount
  anthropicModel: AnthropicModel
  anthropicBatch: AnthropicBatch
  anthropicBatchLine: AnthropicBatchLine
}

export type OpenAiCompletion = OpenAI.ChatCompletion
export type OpenAiChunk = OpenAI.ChatCompletionChunk
export type OpenAiTextCompletion = OpenAI.Completion
export type OpenAiResponse = OpenAI.Responses.Response
export type OpenAiResponseEvent = OpenAI.Responses.ResponseStreamEvent
export type OpenAiModel = OpenAI.Model
export type OpenAiConversation = OpenAI.Conversations.Conversation
export type OpenAiConversationItem = OpenAI.Conversations.ConversationItem
export type OpenAiResponseItem = OpenAI.Responses.ResponseItem
export type AnthropicMessage = Anthropic.Message
export type AnthropicEvent = Anthropic.RawMessageStreamEvent
export type AnthropicTokensCount = Anthropic.MessageTokensCount
export type AnthropicModel = Anthropic.ModelInfo
export type AnthropicBatch = Anthropic.Messages.MessageBatch
export type AnthropicBatchLine = Anthropic.Messages.MessageBatchIndividualResponse
