import { upperBoundTokens } from '#shared/models/tokens.ts'
import { inputTokenBound, outputTokenBound } from '#shared/requests/bounds.ts'
import type { BoundTarget } from '#shared/requests/image-tokens.ts'
import type { ChatRequest } from '#shared/requests/request.ts'
import { messageText } from '#shared/requests/text.ts'
import type { ChatKind, EmbedKind, JobKind, ModelRequest } from './define.ts'
import type { TaskOptions } from './options.ts'

type PromptChoice = Pick<TaskOptions, 'prompt_version'>

/** The version of the prompt that a task uses. */
export const promptVersionOf = (job: Pick<JobKind, 'promptVersion'>, options: PromptChoice): string =>
  options.prompt_version ?? job.promptVersion

/** Whether the kind has this version. A process that is older than the one that accepted the task may lack it. */
export const hasPrompt = (job: Pick<JobKind, 'prompts' | 'promptVersion'>, options: PromptChoice): boolean =>
  Object.hasOwn(job.prompts, promptVersionOf(job, options))

type Prompted<Kind extends JobKind> = Pick<Kind, 'kind' | 'prompts' | 'promptVersion'>

/** @throws Error if the kind lacks the version */
export function buildRequest(job: Prompted<ChatKind>, input: unknown, options: PromptChoice): ChatRequest
export function buildRequest(
  job: Prompted<ChatKind> | Prompted<EmbedKind>,
  input: unknown,
  options: PromptChoice,
): ModelRequest
export function buildRequest(
  job: Prompted<ChatKind> | Prompted<EmbedKind>,
  input: unknown,
  options: PromptChoice,
): ModelRequest {
  if (!hasPrompt(job, options)) throw new Error(`${job.kind} has no prompt "${promptVersionOf(job, options)}"`)
  return job.prompts[promptVersionOf(job, options)]!(input)
}

/** The text of a prompt, by which `auto` chooses a model; '' for embeddings. */
export const promptText = (ask: ModelRequest): string =>
  'texts' in ask ? '' : [ask.system ?? '', ...ask.messages.map(messageText)].join('\n')

/** Upper bounds of the tokens that a call reads, and writes in one answer. @param target absent: of any model */
export const maxTokenUsage = (
  job: Pick<JobKind, 'operation' | 'maxTokens'>,
  ask: ModelRequest,
  options: Pick<TaskOptions, 'max_tokens'>,
  target?: BoundTarget,
): { inputTokens: number; outputTokens: number } => ({
  inputTokens:
    'texts' in ask
      ? upperBoundTokens({ messages: ask.texts.map(content => ({ content })) })
      : inputTokenBound(ask, target),
  outputTokens: job.operation === 'embed' ? 0 : (options.max_tokens ?? job.maxTokens),
})

/** An upper bound of all tokens that a call writes. @param maxTokens the limit of one answer */
export const maxOutput = (ask: ModelRequest, maxTokens: number): number =>
  'texts' in ask ? maxTokens : outputTokenBound(ask, maxTokens)

/** Assumed length of a vector if the request names none. Some models use twice as many dimensions or more. */
export const DEFAULT_DIMENSIONS = 1536

/** Estimated count of numbers in an answer; 0 for text. */
export const vectorSize = (ask: ModelRequest): number =>
  'texts' in ask ? ask.texts.length * (ask.dimensions ?? DEFAULT_DIMENSIONS) : 0

/**
 * Requests a correction of an answer that failed the kind's check: continues the conversation with the answer and the
 * reason. `reason` is Sluice's own text, never the model's.
 */
export const repairPrompt = (prompt: ChatRequest, answer: string, reason: string): ChatRequest => ({
  ...prompt,
  messages: [
    ...prompt.messages,
    ...(answer.trim() === '' ? [] : [{ role: 'assistant' as const, content: answer }]),
    {
      role: 'user',
      content: `That cannot be used: ${reason}. Return the complete, corrected answer.`,
    },
  ],
})
