import type { JobKind } from '#shared/jobs/define.ts'
import type { Mapping } from './mapping.ts'

/** Maximum records of an input file. */
export const MAX_LINES = 50_000
/** Reading stops after this number of problems. They are listed in the batch's `errors`. */
export const MAX_PROBLEMS = 100
export const MAX_CUSTOM_ID = 512

/** The rejection of a request that OpenAI's API would reject too. It becomes the response of the line. */
export type Rejected = {
  status: number
  error: { message: string; type: string; param: string | null; code: string | null }
}

/**
 * A parsed line. `line` counts from 1: lines of JSONL and CSV as an editor shows them (the first one of a record that spans several),
 * or elements of a JSON array. Blank lines count, so that there may be gaps.
 * `rejected`: the line has its response already (`rejectedError`), and `input` and `options` are empty.
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

/** A problem with the file. One problem fails the batch. `param`: the field. */
export type LineProblem = { line: number; code: ProblemCode; message: string; param: string | null }

/** OpenAI's code, if it has one for the case. */
export type ProblemCode =
  // All files
  | 'empty_file'
  | 'too_many_tasks'
  | 'duplicate_custom_id'
  | 'invalid_custom_id'
  | 'invalid_utf8'
  | 'invalid_json_line'
  | 'line_too_long'
  // OpenAI files
  | 'missing_required_parameter'
  | 'invalid_type'
  | 'invalid_method'
  | 'invalid_url'
  | 'url_mismatch'
  | 'streaming_unsupported'
  // Native files
  | 'invalid_json'
  | 'invalid_csv_record'
  | 'invalid_mapping'
  | 'invalid_record'
  /** A line for the other surface, OpenAI's batch API. */
  | 'openai_line'
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
  /** Defaults for all lines. */
  options: Record<string, unknown>
  jobs: ReadonlyMap<string, JobKind>
  /** Whether a configured provider has this model ("claude-…", "ollama/llama3.2", …). */
  isKnownModel(model: string): boolean
  /** The error message for an unknown model, with similar names. */
  unknownModelMessage?(model: string): string
}

export type Bytes = AsyncIterable<Uint8Array>
