import type { Static, TObject, TSchema } from 'typebox'
import type { QueueName } from '#shared/queue/names.ts'

/** What to ask a model. */
export type Prompt = {
  system?: string
  messages: { role: 'user' | 'assistant'; content: string }[]
  /** JSON Schema of the wanted answer. */
  schema?: Record<string, unknown>
}

/** `field` is a JSON pointer within the body. `tooLarge`: answered with 413 instead of 422. */
export type Complaint = { field: string; message: string; tooLarge?: true }

/** `ok: false`: the answer is of no use; `reason` names why, for the attempt's error. */
export type Checked = { ok: true; result: unknown } | { ok: false; reason: string }

/** Each includes those before it: `cache` is a stale entry, then a precomputed answer; `rules` the kind's own after these. */
export const FALLBACKS = ['none', 'cache', 'rules'] as const
export type Fallback = (typeof FALLBACKS)[number]

/** A job kind: a program that the workers run. One file a kind; `index.ts` registers it. */
export type JobKind = {
  kind: string
  title: string
  description: string
  queue: Exclude<QueueName, 'batch'>
  input: TObject
  /** Shape of `result`, for the documentation. */
  result: TSchema
  /** A request body that works as it is. */
  example: { input: unknown; options?: unknown }
  /** What could come of that. */
  exampleResult: unknown
  /** Referenced wherever an answer is remembered or compared. */
  promptVersion: string
  /** `options.max_tokens` when the client does not say. */
  maxTokens: number
  /** How long an answer is as good as a new one, and for how long after that it is better than none; null: never kept. */
  cache: { ttlSeconds: number; staleSeconds: number } | null
  /** `options.fallback` when the client does not say. */
  fallback: Fallback
  /** What the schema cannot say; null: fine. */
  validate(input: unknown): Complaint | null
  prompt(input: unknown): Prompt
  /** Makes the result of what the model wrote. */
  check(text: string, input: unknown): Checked
  /** The answer without a model; null: there is none for this input. */
  rules(input: unknown): unknown | null
  /** The result as the text that was streamed. */
  text(result: unknown): string
}

type Typed<I extends TObject> = Omit<JobKind, 'input' | 'validate' | 'prompt' | 'check' | 'rules'> & {
  input: I
  validate?(input: Static<I>): Complaint | null
  prompt(input: Static<I>): Prompt
  check(text: string, input: Static<I>): Checked
  rules(input: Static<I>): unknown | null
}

/** Declares a kind with its input typed. The API has validated an input before any of these see it. */
export function defineJob<I extends TObject>(job: Typed<I>): JobKind {
  return { validate: () => null, ...job } as JobKind
}
