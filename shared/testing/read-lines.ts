import type { Mapping } from '#shared/batches/mapping.ts'
import { type ReadOptions, readLines } from '#shared/batches/read-lines.ts'
import { jobs } from '#shared/jobs/index.ts'
import { all, inChunks } from './byte-chunks.ts'

/** Reads files in OpenAI's batch format. The models `claude-*` and `ollama/*` are known. */
export const openaiOptions: ReadOptions = {
  surface: 'openai',
  endpoint: '/v1/chat/completions',
  kind: null,
  mapping: null,
  options: {},
  jobs,
  isKnownModel: model => /^(claude-|ollama\/)/.test(model),
}

/** Reads records of the kind `generate`. */
export const nativeOptions = (mapping: Mapping): ReadOptions => ({
  ...openaiOptions,
  surface: 'native',
  endpoint: null,
  kind: 'generate',
  mapping,
})

/** The lines of `file`, which arrives in chunks of `sizes` bytes. */
export const readAll = (file: Uint8Array | string, options: ReadOptions = openaiOptions, sizes?: readonly number[]) =>
  all(readLines(inChunks(file, sizes), options))
