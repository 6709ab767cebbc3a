import { randomUUID } from 'node:crypto'
import type { NewBatch } from '#shared/db/batches/create.ts'
import type { NewChunk, NewLine } from '#shared/db/batches/insert-lines.ts'
import { newId } from '#shared/ids.ts'

export const newBatch = (more: Partial<NewBatch> = {}): NewBatch => ({
  id: newId(),
  apiKeyId: randomUUID(),
  surface: 'native',
  endpoint: null,
  kind: 'generate',
  inputFileId: newId(),
  mapping: null,
  options: {},
  priority: 'normal',
  metadata: null,
  completionWindow: '24h',
  windowSeconds: 86_400,
  outputExpiresSeconds: null,
  webhookUrl: null,
  maxCostUsd: null,
  ...more,
})

export const newLine = (line: number, more: Partial<NewLine> = {}): NewLine => ({
  id: newId(),
  line,
  customId: `line-${line}`,
  kind: 'generate',
  queue: 'default',
  input: JSON.stringify({ prompt: `[[${line}]]` }),
  options: '{}',
  metadata: null,
  cacheKey: null,
  error: null,
  ...more,
})

/** Lines 1 to `count` in chunks of `size`. */
export function newLines(count: number, size: number): { lines: NewLine[]; chunks: NewChunk[] } {
  const lines = Array.from({ length: count }, (_, index) => newLine(index + 1))
  const chunks = Array.from({ length: Math.ceil(count / size) }, (_, index) => ({
    id: newId(),
    firstLine: index * size + 1,
    lastLine: Math.min(count, (index + 1) * size),
  }))
  return { lines, chunks }
}
