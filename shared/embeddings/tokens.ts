import { isUtf8 } from 'node:buffer'
import { createRequire } from 'node:module'

/** The bytes of each token: a text, or numbers if they are not valid text. */
type Vocabulary = readonly (string | readonly number[] | undefined)[]

let vocabulary: Vocabulary | null = null

/**
 * Loads the vocabulary at its first use: it takes tens of milliseconds and megabytes, and most processes never need it.
 */
function load(): Vocabulary {
  vocabulary ??= (createRequire(import.meta.url)('gpt-tokenizer/cjs/bpeRanks/cl100k_base') as { default: Vocabulary })
    .default
  return vocabulary
}

/**
 * Decodes tokens of cl100k_base, the encoding of OpenAI's embedding models. Control tokens are errors, because they
 * have no text.
 * @returns `wrong`: an error; `at`: index of the invalid token, null: the tokens are invalid only together
 */
export function decodeTokens(tokens: readonly number[]): { text: string } | { wrong: string; at: number | null } {
  const known = load()
  const bytes: Buffer[] = []
  for (const [at, token] of tokens.entries()) {
    const found = known[token]
    if (found === undefined) return { wrong: 'is not a token of the encoding cl100k_base', at }
    bytes.push(Buffer.from(found as string))
  }
  const whole = Buffer.concat(bytes)
  if (!isUtf8(whole)) return { wrong: 'begins or ends within a character', at: null }
  const text = whole.toString('utf8')
  return text.includes('\0') ? { wrong: 'has a token for U+0000, which cannot be stored', at: null } : { text }
}
