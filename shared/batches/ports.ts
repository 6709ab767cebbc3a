import type { TaskError } from '#shared/errors.ts'
import type { JobKind } from '#shared/jobs/define.ts'

/** What the engine needs of the parts around it: the store of files, the reading of input and the writing of output. */

export type BatchFile = { id: string; api_key_id: string; bytes: number }

export type FileWriter = {
  readonly id: string
  write(bytes: Uint8Array): Promise<void>
  finish(more?: { purpose?: string; expiresSeconds?: number | null }): Promise<unknown>
  abort(): Promise<void>
}

export type FileStore = {
  create(meta: {
    id?: string
    apiKeyId: string
    purpose: string
    filename: string
    expiresSeconds?: number | null
  }): Promise<FileWriter>
  read(id: string): Promise<{ file: BatchFile; bytes: AsyncIterable<Uint8Array> } | null>
  remove(id: string): Promise<boolean>
}

export type Rejected = {
  status: number
  error: { message: string; type: string; param: string | null; code: string | null }
}
export type ParsedLine = {
  line: number
  customId: string | null
  kind: string
  input: unknown
  options: Record<string, unknown>
  metadata?: Record<string, unknown> | null
  /** It has its answer already: it fails with `rejectedError` of this, the others go on. */
  rejected?: Rejected
}
export type LineProblem = { line: number; code: string; message: string; param: string | null }

export type ReadOptions = {
  surface: 'openai' | 'native'
  endpoint: string | null
  kind: string | null
  mapping: unknown
  options: Record<string, unknown>
  jobs: ReadonlyMap<string, JobKind>
  knowsModel(model: string): boolean
}
export type ReadLines = (
  bytes: AsyncIterable<Uint8Array>,
  options: ReadOptions,
) => AsyncGenerator<ParsedLine | LineProblem>

export const isProblem = (one: ParsedLine | LineProblem): one is LineProblem => 'code' in one

/** A line's task when it has ended. */
export type EndedLine = {
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
  cost_usd: string
  created_at: Date
  finished_at: Date | null
}

export type OpenAiOutputLine = (endpoint: string, line: EndedLine) => { file: 'output' | 'error'; text: string }

export type BatchParts = {
  files: FileStore
  readLines: ReadLines
  rejectedError(rejected: Rejected): TaskError
  outputLine: OpenAiOutputLine
}
