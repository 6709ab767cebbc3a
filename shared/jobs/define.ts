import type { Static, TObject, TSchema } from 'typebox'
import type { QueryOutcome } from '#shared/db/query-outcome.ts'
import type { ErrorCode } from '#shared/errors.ts'
import type { Policy } from '#shared/moderation/policy.ts'
import type { Priority, QueueName } from '#shared/queue/names.ts'
import type { ChatAnswer } from '#shared/requests/answer.ts'
import type { ChatRequest } from '#shared/requests/request.ts'
import type { Tables } from '#shared/sql-guard/scope.ts'

/**
 * A request to an embedding model: one vector per text. `dimensions`: length of each vector; absent: the model's
 * default.
 */
export type Embedding = { texts: string[]; dimensions?: number }

export type ModelRequest = ChatRequest | Embedding

/**
 * An error in a client's input. `field`: JSON pointer within the body. `tooLarge`: the status is 413 instead of 422.
 */
export type InputFault = { field: string; message: string; tooLarge?: true }

/** A part of a document that was found for a question. Citations name its `id`. */
export type Passage = { id: string; text: string }

/** Resolves references in an input. */
export type InputContext = {
  policy(name: string): Promise<Policy | null>
  /** Passages of a collection of the client, best first. `wrong`: why there are none. */
  passages(collection: string, wanted: { question: string; limit: number }): Promise<Passage[] | { wrong: string }>
  /** Whether a database is configured for running queries. */
  runsQueries: boolean
}
export type PreparedInput = { input: unknown } | { fault: InputFault }

/** Passed to a check only when a task runs, not when stored results are compared. */
export type CheckTools = {
  /**
   * Runs one SELECT that passed the guard. `rows`: maximum number of rows. `columns`: the columns that the guard
   * assumed for the tables that the query reads. The guard is right only if they exist. null: no database is
   * configured.
   */
  runQuery: ((sql: string, limits: { rows: number; columns: Tables }) => Promise<QueryOutcome>) | null
}

/** Replaces secrets and personal numbers in every text of a value, and counts them. */
export type Filter = <T>(value: T) => T

/**
 * `ok: false`: the answer is unusable; `reason` goes into the attempt's error and to the model. `fatal`: no other
 * answer can succeed; the task fails with this code.
 */
export type CheckOutcome = { ok: true; result: unknown } | { ok: false; reason: string; fatal?: ErrorCode }

/**
 * Each level includes those before it. `cache`: a stale entry, then a precomputed answer. `rules`: the rules of the
 * kind.
 */
export const FALLBACKS = ['none', 'cache', 'rules'] as const
export type Fallback = (typeof FALLBACKS)[number]

/** Whether a result answers, or states that there is no answer. A metric label, so the set is closed. */
export type AnswerOutcome = 'answered' | 'no_answer'

/** A job kind: a program that the engine runs. One file per kind; `kinds.ts` registers it. */
export type JobKind = ChatKind | EmbedKind

/** Fields of every kind. */
type AnyKind = {
  kind: string
  title: string
  description: string
  queue: Exclude<QueueName, 'batch'>
  input: TObject
  /** Schema of `result`, for the documentation. */
  result: TSchema
  /** A request body that works unchanged. */
  example: { input: unknown; options?: unknown }
  /** A possible result of `example`. */
  exampleResult: unknown
  /** The text that a model writes for `exampleResult`; null: `text(exampleResult)` or the result as JSON. */
  exampleAnswer: string | null
  /** Default version of the prompt. Cache keys and the ledger contain it. */
  promptVersion: string
  /**
   * Default of `options.max_tokens`; 0 for embedding models, which write nothing. For an open-ended kind, the minimum
   * that is reserved for an answer.
   */
  maxTokens: number
  /**
   * Seconds for which an answer is fresh, and then for how many more it can serve as a fallback; null: never cached.
   */
  cache: { ttlSeconds: number; staleSeconds: number } | null
  /** Default of `options.fallback`. */
  fallback: Fallback
  /** Default of `options.priority`. */
  priority: Priority
  /** Default of `options.deadline_seconds`. */
  deadlineSeconds: number
  /**
   * Default of `options.output_filter`: replace secrets and personal numbers in the result. Filtered text is not
   * streamed.
   */
  outputFilter: boolean
  /** Applies the filter to a result, except to parts whose meaning it would change. */
  filter(result: unknown, filter: Filter): unknown
  /**
   * The result of a task that ends without one (failed, expired, cancelled); null: none. For kinds whose missing answer
   * could be mistaken for a good one.
   */
  resultWithoutVerdict: unknown | null
  /** Checks what the schema cannot express; null: valid. */
  validate(input: unknown): InputFault | null
  /** The answer if rules alone are certain, before anything is spent; null: ask a model. */
  answerByRules(input: unknown): unknown | null
  /**
   * Whether the answer to this input is neither cached nor shared with identical tasks, because it depends on the
   * moment.
   */
  uncacheable(input: unknown): boolean
  /** Whether the result may answer a later identical request. */
  isCacheable(result: unknown): boolean
  /** For kinds that may answer that they do not know: which of the two the result is. null: not such a kind. */
  outcomeOf(result: unknown): AnswerOutcome | null
  /** Resolves references in the input, such as the name of a policy, when the task is accepted. */
  prepare(input: unknown, context: InputContext): Promise<PreparedInput>
  /** The answer without a model; null: none for this input. */
  rules(input: unknown): unknown | null
}

/** A kind that models answer with text. */
export type ChatKind = AnyKind & {
  operation: 'chat'
  /** Prompts by version. Never edit a version that was used; add a new one. */
  prompts: Record<string, (input: unknown) => ChatRequest>
  /** The prompt for models that need a format of their own; null: the usual prompt. */
  promptFor(input: unknown, model: string): ChatRequest | null
  /**
   * Turns the text of `model` into a result. After a failed check, the model is asked for a correction with the reason.
   * Returns a promise if it needs something that is loaded late, such as a parser.
   */
  check(text: string, input: unknown, model: string, tools?: CheckTools): CheckOutcome | Promise<CheckOutcome>
  /** Answers may have any length: without `options.max_tokens` the limit is the model's own. */
  openEnded: boolean
  /**
   * The result, if it is the answer as the model gave it: with tool calls, reasoning and refusals, and also if it was cut off. null:
   * `check` turns the text into the result.
   */
  wholeAnswer(answer: ChatAnswer, input: unknown): unknown | null
  /** The result if the model refused, with its text; null: a refusal is no result and the task fails. */
  refused(text: string, input: unknown): unknown | null
  /** The result as the text that was streamed. */
  text(result: unknown): string
}

/** A kind that embedding models answer with vectors. */
export type EmbedKind = AnyKind & {
  operation: 'embed'
  /** Requests by version, as in `ChatKind`. */
  prompts: Record<string, (input: unknown) => Embedding>
  /** Turns the vectors of a model into a result. After a failed check, the same request is sent again. */
  check(vectors: number[][], input: unknown): CheckOutcome
  /** The vectors of a result; null: it has none. */
  vectors(result: unknown): number[][] | null
}

/** The declaration of a kind whose input has the type `I`. */
type CommonDefinition<I extends TObject> = Omit<AnyKind, keyof Defaults | 'input' | 'rules'> & {
  input: I
  priority?: Priority
  deadlineSeconds?: number
  outputFilter?: boolean
  filter?(result: unknown, filter: Filter): unknown
  resultWithoutVerdict?: unknown
  exampleAnswer?: string
  validate?(input: Static<I>): InputFault | null
  answerByRules?(input: Static<I>): unknown | null
  uncacheable?(input: Static<I>): boolean
  isCacheable?(result: unknown): boolean
  outcomeOf?(result: unknown): AnswerOutcome | null
  prepare?(input: Static<I>, context: InputContext): Promise<PreparedInput>
  rules(input: Static<I>): unknown | null
}

type ChatDefinition<I extends TObject> = CommonDefinition<I> &
  Pick<ChatKind, 'text'> & {
    prompts: Record<string, (input: Static<I>) => ChatRequest>
    promptFor?(input: Static<I>, model: string): ChatRequest | null
    openEnded?: boolean
    refused?(text: string, input: Static<I>): unknown | null
    wholeAnswer?(answer: ChatAnswer, input: Static<I>): unknown | null
    check(text: string, input: Static<I>, model: string, tools?: CheckTools): CheckOutcome | Promise<CheckOutcome>
  }

type EmbedDefinition<I extends TObject> = CommonDefinition<I> &
  Pick<EmbedKind, 'vectors'> & {
    prompts: Record<string, (input: Static<I>) => Embedding>
    check(vectors: number[][], input: Static<I>): CheckOutcome
  }

const DEFAULTS = {
  priority: 'normal',
  deadlineSeconds: 600,
  outputFilter: true,
  filter: (result: unknown, filter: Filter): unknown => filter(result),
  resultWithoutVerdict: null,
  exampleAnswer: null,
  validate: () => null,
  answerByRules: () => null,
  uncacheable: () => false,
  isCacheable: () => true,
  outcomeOf: () => null,
  prepare: async (input: unknown): Promise<PreparedInput> => ({ input }),
}
type Defaults = typeof DEFAULTS

/** Declares a kind with a typed input. The API validates an input before any of its functions receives it. */
export function defineJob<I extends TObject>(job: ChatDefinition<I>): ChatKind {
  return {
    ...DEFAULTS,
    promptFor: () => null,
    openEnded: false,
    refused: () => null,
    wholeAnswer: () => null,
    ...job,
    operation: 'chat',
  } as ChatKind
}

/** Declares a kind that embedding models answer. */
export function defineEmbedding<I extends TObject>(job: EmbedDefinition<I>): EmbedKind {
  return { ...DEFAULTS, ...job, operation: 'embed' } as EmbedKind
}
