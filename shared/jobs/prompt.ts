import { type TokenSource, upperBoundTokens } from '#shared/models/tokens.ts'
import type { Ask, ChatKind, EmbedKind, JobKind, Prompt } from './define.ts'
import type { TaskOptions } from './options.ts'

type Asked = Pick<TaskOptions, 'prompt_version'>

/** The version of the prompt that a task is asked with. */
export const promptVersionOf = (job: Pick<JobKind, 'promptVersion'>, options: Asked): string =>
  options.prompt_version ?? job.promptVersion

/** Whether the kind has such a version; a process that is older than the one that accepted a task may not. */
export const hasPrompt = (job: Pick<JobKind, 'prompts' | 'promptVersion'>, options: Asked): boolean =>
  Object.hasOwn(job.prompts, promptVersionOf(job, options))

type Prompted<Kind extends JobKind> = Pick<Kind, 'kind' | 'prompts' | 'promptVersion'>

/** @throws if the kind has no such version */
export function promptOf(job: Prompted<ChatKind>, input: unknown, options: Asked): Prompt
export function promptOf(job: Prompted<ChatKind> | Prompted<EmbedKind>, input: unknown, options: Asked): Ask
export function promptOf(job: Prompted<ChatKind> | Prompted<EmbedKind>, input: unknown, options: Asked): Ask {
  if (!hasPrompt(job, options)) throw new Error(`${job.kind} has no prompt "${promptVersionOf(job, options)}"`)
  return job.prompts[promptVersionOf(job, options)]!(input)
}

/** All that a prompt says, as one text, by which a model is chosen. What is to be embedded has no say in that. */
export const wordsOf = (ask: Ask): string =>
  'texts' in ask ? '' : [ask.system ?? '', ...ask.messages.map(one => one.content)].join('\n')

/** The most tokens that a call can read and write. */
export const mostTokens = (
  job: Pick<JobKind, 'operation' | 'maxTokens'>,
  ask: Ask,
  options: Pick<TaskOptions, 'max_tokens'>,
): { inputTokens: number; outputTokens: number } => ({
  inputTokens: upperBoundTokens(sourceOf(ask)),
  outputTokens: job.operation === 'embed' ? 0 : (options.max_tokens ?? job.maxTokens),
})

/** Length of a vector whose length nobody asked for. Some models' are twice as long, or more. */
export const USUAL_DIMENSIONS = 1536

/** Numbers that an answer will have, about; 0: it is text. */
export const bulkOf = (ask: Ask): number =>
  'texts' in ask ? ask.texts.length * (ask.dimensions ?? USUAL_DIMENSIONS) : 0

const sourceOf = (ask: Ask): TokenSource =>
  'texts' in ask ? { messages: ask.texts.map(content => ({ content })) } : ask

/**
 * Asks again for an answer that failed the kind's check: the conversation goes on with what the model wrote and what is wrong
 * with it. `reason` is our own text, never the model's.
 */
export const repairing = (prompt: Prompt, answer: string, reason: string): Prompt => ({
  ...prompt,
  messages: [
    ...prompt.messages,
    ...(answer.trim() === '' ? [] : [{ role: 'assistant' as const, content: answer }]),
    {
      role: 'user',
      content: `That cannot be used: ${reason}. Answer the same request once more, whole, and with that mended.`,
    },
  ],
})
