import type { Static, TObject, TSchema } from 'typebox'
import type { ErrorCode } from '#shared/errors.ts'
import type { Policy } from '#shared/moderation/policy.ts'
import type { Priority, QueueName } from '#shared/queue/names.ts'
import type { Tables } from '#shared/sql-guard/scope.ts'

/** What to ask a model that writes. */
export type Prompt = {
  system?: string
  messages: { role: 'user' | 'assistant'; content: string }[]
  /** JSON Schema of the wanted answer. */
  schema?: Record<string, unknown>
}

/** What to ask a model that makes vectors: one of each text. `dimensions`: how long they are to be; absent: the model's own. */
export type Embedding = { texts: string[]; dimensions?: number }

/** What a call asks for. */
export type Ask = Prompt | Embedding

/** `field` is a JSON pointer within the body. `tooLarge`: answered with 413 instead of 422. */
export type Complaint = { field: string; message: string; tooLarge?: true }

/** Of a document, found for a question. `id` is what a citation names. */
export type Passage = { id: string; text: string }

/** What an input may refer to. */
export type Lookup = {
  policy(name: string): Promise<Policy | null>
  /** Passages of a collection of the client's own, best first. `wrong`: why there are none to be had. */
  passages(collection: string, wanted: { question: string; limit: number }): Promise<Passage[] | { wrong: string }>
  /** Whether there is a database to run queries on. */
  runsQueries: boolean
}
export type Prepared = { input: unknown } | { complaint: Complaint }

/** A value as JSON has it: numbers where they are exact, else what Postgres writes. */
export type Cell = string | number | boolean | null
export type QueryRows = {
  columns: { name: string; type: string }[]
  rows: Cell[][]
  /** There were more rows, or a value was longer. */
  truncated: boolean
}
/** `refused`: by the query's own fault; `reason` says why, in words that hold nothing of the data. */
/** `mismatch`: the tables that the query reads have not all the columns that they were said to have. */
export type QueryOutcome =
  | ({ kind: 'rows' } & QueryRows)
  | { kind: 'refused' | 'mismatch' | 'unavailable'; reason: string }

/** What a check may use beside the answer. Only where a task is run: whoever merely compares results has none. */
export type Tools = {
  /**
   * Runs one SELECT that has been guarded. `rows`: of the result, at most. `columns`: what the guard was told of the tables that
   * it reads, which must be there for the guard to be right. null: there is no database for it
   */
  runQuery: ((sql: string, limits: { rows: number; columns: Tables }) => Promise<QueryOutcome>) | null
}

/** Takes secrets and personal numbers out of every text in a value, and counts them. */
export type Filter = <T>(value: T) => T

/**
 * `ok: false`: the answer is of no use; `reason` names why, for the attempt's error. `fatal`: no other answer would do
 * better, and the task fails with this error.
 */
export type Checked = { ok: true; result: unknown } | { ok: false; reason: string; fatal?: ErrorCode }

/** Each includes those before it: `cache` is a stale entry, then a precomputed answer; `rules` the kind's own after these. */
export const FALLBACKS = ['none', 'cache', 'rules'] as const
export type Fallback = (typeof FALLBACKS)[number]

/** Whether a result says something or says that there is nothing to say. A label of a metric: the set is closed. */
export type AnswerOutcome = 'answered' | 'no_answer'

/** A job kind: a program that the workers run. One file a kind; `index.ts` registers it. */
export type JobKind = ChatKind | EmbedKind

/** What all kinds have. */
type AnyKind = {
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
  /** The one that is asked with when the client does not say. Referenced wherever an answer is remembered or compared. */
  promptVersion: string
  /** `options.max_tokens` when the client does not say; 0: its models write nothing. */
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
  /** Filters a result: the whole of it, unless a part would be something else afterwards. */
  filter(result: unknown, filter: Filter): unknown
  /**
   * The result of a task that ends without one, however it ends (failed, expired, cancelled); null: it has none then. For
   * kinds of which an absent answer could be mistaken for a good one.
   */
  noVerdict: unknown | null
  /** What the schema cannot say; null: fine. */
  validate(input: unknown): Complaint | null
  /** The answer when rules alone are sure of it, before anything is spent; null: ask a model. */
  settled(input: unknown): unknown | null
  /** Whether the answer to this input is one of its moment: neither remembered nor shared with who asks the same. */
  momentary(input: unknown): boolean
  /** Whether a result may be given again to whoever asks the same. */
  keeps(result: unknown): boolean
  /** For kinds that may honestly answer that they do not know: which of the two a result is; null: it is not that sort of kind. */
  outcomeOf(result: unknown): AnswerOutcome | null
  /** What the client's input stands for when the task is accepted, such as the policy that it names. */
  prepare(input: unknown, look: Lookup): Promise<Prepared>
  /** The answer without a model; null: there is none for this input. */
  rules(input: unknown): unknown | null
}

/** One that is answered by models that write. */
export type ChatKind = AnyKind & {
  operation: 'chat'
  /** What to ask a model, by version. One that was used is not edited: a new one is added. */
  prompts: Record<string, (input: unknown) => Prompt>
  /** For models that are asked in a form of their own; null: as everybody is. */
  promptFor(input: unknown, model: string): Prompt | null
  /**
   * Makes the result of what `model` wrote. What fails is asked for again, with the reason. A promise where that needs what
   * is loaded late, such as a parser.
   */
  check(text: string, input: unknown, model: string, tools?: Tools): Checked | Promise<Checked>
  /** The result as the text that was streamed. */
  text(result: unknown): string
}

/** One that is answered by models that make vectors. */
export type EmbedKind = AnyKind & {
  operation: 'embed'
  /** What to ask a model, by version, as in `ChatKind`. */
  prompts: Record<string, (input: unknown) => Embedding>
  /** Makes the result of a model's vectors. What fails is asked for again, as it was. */
  check(vectors: number[][], input: unknown): Checked
  /** The vectors of a result; null: it has none. */
  vectors(result: unknown): number[][] | null
}

/** Of a kind whose input is of the type `I`. */
type Common<I extends TObject> = Omit<AnyKind, keyof Defaults | 'input' | 'rules'> & {
  input: I
  priority?: Priority
  deadlineSeconds?: number
  outputFilter?: boolean
  filter?(result: unknown, filter: Filter): unknown
  noVerdict?: unknown
  exampleAnswer?: string
  validate?(input: Static<I>): Complaint | null
  settled?(input: Static<I>): unknown | null
  momentary?(input: Static<I>): boolean
  keeps?(result: unknown): boolean
  outcomeOf?(result: unknown): AnswerOutcome | null
  prepare?(input: Static<I>, look: Lookup): Promise<Prepared>
  rules(input: Static<I>): unknown | null
}

type Chat<I extends TObject> = Common<I> &
  Pick<ChatKind, 'text'> & {
    prompts: Record<string, (input: Static<I>) => Prompt>
    promptFor?(input: Static<I>, model: string): Prompt | null
    check(text: string, input: Static<I>, model: string, tools?: Tools): Checked | Promise<Checked>
  }

type Embed<I extends TObject> = Common<I> &
  Pick<EmbedKind, 'vectors'> & {
    prompts: Record<string, (input: Static<I>) => Embedding>
    check(vectors: number[][], input: Static<I>): Checked
  }

const DEFAULTS = {
  priority: 'normal',
  deadlineSeconds: 600,
  outputFilter: true,
  filter: (result: unknown, filter: Filter): unknown => filter(result),
  noVerdict: null,
  exampleAnswer: null,
  validate: () => null,
  settled: () => null,
  momentary: () => false,
  keeps: () => true,
  outcomeOf: () => null,
  prepare: async (input: unknown): Promise<Prepared> => ({ input }),
}
type Defaults = typeof DEFAULTS

/** Declares a kind with its input typed. The API has validated an input before any of these see it. */
export function defineJob<I extends TObject>(job: Chat<I>): ChatKind {
  return { ...DEFAULTS, promptFor: () => null, ...job, operation: 'chat' } as ChatKind
}

/** The same for a kind that is answered in vectors. */
export function defineEmbedding<I extends TObject>(job: Embed<I>): EmbedKind {
  return { ...DEFAULTS, ...job, operation: 'embed' } as EmbedKind
}
