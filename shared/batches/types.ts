import type { TaskError } from '#shared/errors.ts'
import type { JobKind } from '#shared/jobs/define.ts'
import type { Mapping } from './mapping.ts'

/** The most records of one input file. */
export const MOST_LINES = 50_000
/** Reading stops when this many are found; they are listed in the batch's `errors`. */
export const MOST_PROBLEMS = 100
export const MAX_CUSTOM_ID = 512

/** A request that OpenAI's API would have refused: the answer of its line. */
export type Rejected = {
  status: number
  error: { message: string; type: string; param: string | null; code: string | null }
}

/**
 * A line as a task to be. `line` counts from 1: lines of JSONL and CSV as an editor shows them (of a record that spans
 * several, its first), elements of a JSON array. Blank ones are counted, so that there may be gaps.
 * `rejected`: it has its answer already (`rejectedError`), and `input` and `options` are empty.
 */
export type ParsedLine = {
  line: number
  customId: string | null
  kind: string
  input: unknown
  options: Record<string, unknown>
  metadata?: Record<string, unknown> | null
  rejected?: Rejected
}

/** What is wrong with the file; one is enough for the batch to fail. `param`: the field. */
export type LineProblem = { line: number; code: ProblemCode; message: string; param: string | null }

/** OpenAI's, where it has one for the case. */
export type ProblemCode =
  // any file
  | 'empty_file'
  | 'too_many_tasks'
  | 'duplicate_custom_id'
  | 'invalid_custom_id'
  | 'invalid_utf8'
  | 'invalid_json_line'
  | 'line_too_long'
  // OpenAI's
  | 'missing_required_parameter'
  | 'invalid_type'
  | 'invalid_method'
  | 'invalid_url'
  | 'url_mismatch'
  | 'streaming_unsupported'
  // native ones
  | 'invalid_json'
  | 'invalid_csv_record'
  | 'invalid_mapping'
  | 'invalid_record'
  | 'invalid_input'
  | 'invalid_options'
  | 'invalid_metadata'
  | 'invalid_text'
  | 'model_not_found'

export type ReadOptions = {
  surface: 'openai' | 'native'
  /** openai */
  endpoint: string | null
  /** native */
  kind: string | null
  /** native */
  mapping: Mapping | null
  /** For all lines; a line's own win. */
  options: Record<string, unknown>
  jobs: ReadonlyMap<string, JobKind>
  /** Whether some configured provider can be asked for this model ("claude-…", "ollama/llama3.2", …). */
  knowsModel(model: string): boolean
}

/** A line's task as the database has it, when it has ended. */
export type EndedLine = {
  /** uuid */
  task_id: string
  line: number
  custom_id: string | null
  kind: string
  status: 'succeeded' | 'failed' | 'cancelled' | 'expired'
  result: unknown
  source: string | null
  quality: string | null
  provider: string | null
  model: string | null
  error: TaskError | null
  input: unknown
  options: Record<string, unknown>
  input_tokens: number
  output_tokens: number
  /** Of the call that was the answer; `output_tokens` is of all calls. null: nobody said. */
  answer_tokens: number | null
  cost_usd: string
  created_at: Date
  finished_at: Date | null
}

export type Bytes = AsyncIterable<Uint8Array>
