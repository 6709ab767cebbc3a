import type { Static, TObject, TSchema } from 'typebox'
import type { Policy } from '#shared/moderation/policy.ts'
import type { Priority, QueueName } from '#shared/queue/names.ts'

/** What to ask a model. */
export type Prompt = {
  system?: string
  messages: { role: 'user' | 'assistant'; content: string }[]
  /** JSON Schema of the wanted answer. */
  schema?: Record<string, unknown>
}

/** `field` is a JSON pointer within the body. `tooLarge`: answered with 413 instead of 422. */
export type Complaint = { field: string; message: string; tooLarge?: true }

/** What an input may refer to. */
export type Lookup = { policy(name: string): Promise<Policy | null> }
export type Prepared = { input: unknown } | { complaint: Complaint }

/** `ok: false`: the answer is of no use; `reason` names why, for the attempt's error. */
export type Checked = { ok: true; result: unknown } | { ok: false; reason: string }

/** Each includes those before it: `cache` is a stale entry, then a precomputed answer; `rules` the kind's own after these. */
export const FALLBACKS = ['none', 'cache', 'rules'] as const
export type Fallback = (typeof FALLBACKS)[number]

/** Whether a result says something or says that there is nothing to say. A label of a metric: the set is closed. */
export type AnswerOutcome = 'answered' | 'no_answer'

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
  /** What a model wrote for it, if that is neither `text(exampleResult)` nor the result as JSON; null: it is one of these. */
  exampleAnswer: string | null
  /** What to ask a model, by version. One that was used is not edited: a new one is added. */
  prompts: Record<string, (input: unknown) => Prompt>
  /** The one that is asked with when the client does not say. Referenced wherever an answer is remembered or compared. */
  promptVersion: string
  /** `options.max_tokens` when the client does not say. */
  maxTokens: number
  /** How long an answer is as good as a new one, and for how long after that it is better than none; null: never kept. */
  cache: { ttlSeconds: number; staleSeconds: number } | null
  /** `options.fallback` when the client does not say. */
  fallback: Fallback
  /** `options.priority` when the client does not say. */
  priority: Priority
  /** `options.deadline_seconds` when the client does not say. */
  deadlineSeconds: number
  /** Takes secrets and personal numbers out of the result, unless `options.output_filter` says otherwise. Such text is not streamed. */
  outputFilter: boolean
  /**
   * The result of a task that ends without one, however it ends (failed, expired, cancelled); null: it has none then. For
   * kinds of which an absent answer could be mistaken for a good one.
   */
  noVerdict: unknown | null
  /** What the schema cannot say; null: fine. */
  validate(input: unknown): Complaint | null
  /** The answer when rules alone are sure of it, before anything is spent; null: ask a model. */
  settled(input: unknown): unknown | null
  /** For models that are asked in a form of their own; null: as everybody is. */
  promptFor(input: unknown, model: string): Prompt | null
  /**
   * Makes the result of what `model` wrote. What fails is asked for again, with the reason. A promise where that needs what
   * is loaded late, such as a parser.
   */
  check(text: string, input: unknown, model: string): Checked | Promise<Checked>
  /** Whether a result may be given again to whoever asks the same. */
  keeps(result: unknown): boolean
  /** For kinds that may honestly answer that they do not know: which of the two a result is; null: it is not that sort of kind. */
  outcomeOf(result: unknown): AnswerOutcome | null
  /** What the client's input stands for when the task is accepted, such as the policy that it names. */
  prepare(input: unknown, look: Lookup): Promise<Prepared>
  /** The answer without a model; null: there is none for this input. */
  rules(input: unknown): unknown | null
  /** The result as the text that was streamed. */
  text(result: unknown): string
}

type Typed<I extends TObject> = Omit<JobKind, keyof Defaults | 'input' | 'prompts' | 'check' | 'rules'> & {
  input: I
  prompts: Record<string, (input: Static<I>) => Prompt>
  priority?: Priority
  deadlineSeconds?: number
  outputFilter?: boolean
  noVerdict?: unknown
  exampleAnswer?: string
  validate?(input: Static<I>): Complaint | null
  settled?(input: Static<I>): unknown | null
  keeps?(result: unknown): boolean
  outcomeOf?(result: unknown): AnswerOutcome | null
  prepare?(input: Static<I>, look: Lookup): Promise<Prepared>
  promptFor?(input: Static<I>, model: string): Prompt | null
  check(text: string, input: Static<I>, model: string): Checked | Promise<Checked>
  rules(input: Static<I>): unknown | null
}

const DEFAULTS = {
  priority: 'normal',
  deadlineSeconds: 600,
  outputFilter: true,
  noVerdict: null,
  exampleAnswer: null,
  validate: () => null,
  settled: () => null,
  promptFor: () => null,
  keeps: () => true,
  outcomeOf: () => null,
  prepare: async (input: unknown): Promise<Prepared> => ({ input }),
}
type Defaults = typeof DEFAULTS

/** Declares a kind with its input typed. The API has validated an input before any of these see it. */
export function defineJob<I extends TObject>(job: Typed<I>): JobKind {
  return { ...DEFAULTS, ...job } as JobKind
}
