import { createRequire } from 'node:module'
import { imageTokenBound } from './image-tokens.ts'
import { partsOf } from './parts.ts'
import type { ChatRequest } from './request.ts'
import { messageText } from './text.ts'

type Encoding = { countTokens(text: string, options: { allowedSpecial: 'all' }): number }

let encoding: Encoding | null = null

/** Loads the encoding at its first use: it takes tens of milliseconds and megabytes, and most processes never need it. */
const load = (): Encoding => {
  encoding ??= createRequire(import.meta.url)('gpt-tokenizer/cjs/encoding/o200k_base') as Encoding
  return encoding
}

/** Marks around a message. */
const PER_MESSAGE = 4
/** Longer texts are counted in part, because counting would hold up other requests. */
const MAX_COUNTED = 100_000

/**
 * Estimates the input tokens of a request with OpenAI's newest encoding, o200k_base, for the models of all providers. Documents that only a
 * provider can read count as nothing.
 */
export function countTokens(request: ChatRequest): number {
  const { system = '', messages, tools = [], schema } = request
  const texts = [
    system,
    ...messages.map(messageText),
    ...partsOf(request).map(one => (one.type === 'tool_call' ? one.name + one.arguments : '')),
    ...tools.map(one => JSON.stringify(one)),
    schema ? JSON.stringify(schema) : '',
  ]
  const images = partsOf(request).filter(one => one.type === 'image')
  return (
    texts.reduce((sum, text) => sum + countText(text), 0) +
    images.reduce((sum, one) => sum + imageTokenBound(one, undefined), 0) +
    PER_MESSAGE * messages.length
  )
}

function countText(text: string): number {
  if (text === '') return 0
  const counted = text.slice(0, MAX_COUNTED)
  const tokens = load().countTokens(counted, { allowedSpecial: 'all' })
  return Math.ceil((tokens * text.length) / counted.length)
}
