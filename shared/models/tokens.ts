/** Token counts reported by a provider. `inputTokens` includes tokens read from and written to the cache. */
export type TokenUsage = {
  inputTokens: number
  outputTokens: number
  cacheReadTokens: number
  cacheWriteTokens: number
  /** The part of `outputTokens` that was reasoning; absent: not reported. */
  reasoningTokens?: number
}

/** The parts of a request that cost input tokens. */
export type TokenSource = {
  system?: string | undefined
  messages: readonly { role?: 'user' | 'assistant'; content: string }[]
  /** JSON Schema of the requested answer. Every adapter sends it in some form. */
  schema?: Record<string, unknown> | undefined
}

/** Maximum length of a token in any known vocabulary, except for runs of one character. */
const MAX_TOKEN_LENGTH = 16
/** In no language does a token have this many characters on average. */
const MAX_MEAN_TOKEN_LENGTH = 6

/**
 * A lower bound of the input tokens of a request in any language. Tokenizers split at white space, so each word is at
 * least one token. Assistant turns do not count, because chat templates shorten them, for example by earlier reasoning.
 */
export function lowerBoundTokens({ system, messages }: Omit<TokenSource, 'schema'>): number {
  const texts = messages.filter(one => one.role !== 'assistant').map(one => one.content)
  if (system !== undefined) texts.push(system)
  return texts.reduce(
    (sum, text) => sum + Math.min(minTokensOfWords(text), Math.floor(text.length / MAX_MEAN_TOKEN_LENGTH)),
    0,
  )
}

/** Counts words; a long word counts several times. A run of one character counts as one character. */
function minTokensOfWords(text: string): number {
  let words = 0
  let length = 0
  let before = -1
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    const space = code === 32 || (code >= 9 && code <= 13) || code === 160 || code === 0x3000
    if (space) {
      words += Math.ceil(length / MAX_TOKEN_LENGTH)
      length = 0
    } else if (code !== before) length++
    before = code
  }
  return words + Math.ceil(length / MAX_TOKEN_LENGTH)
}

/** Role marks and separators of one message, including the system prompt: 3 to 8 tokens in known templates. */
const PER_MESSAGE = 16

/** The provider's own template text, such as the date and the name of the model. */
const PER_REQUEST = 256

/** The provider's own instructions for JSON answers. */
const PER_SCHEMA = 1024

/** Adapters and providers rewrite a schema. Rules that they cannot enforce become text with nested quotes. */
const SCHEMA_GROWTH = 4

/**
 * An upper bound of the input tokens of a request. The tokenizers of these models work on bytes or fall back to bytes,
 * so a text has at most as many tokens as UTF-8 bytes. English has about four bytes per token. The bound is generous,
 * but it needs no tokenizer and is valid for every model.
 */
export function upperBoundTokens({ system, messages, schema }: TokenSource): number {
  const texts = messages.map(one => one.content)
  if (system !== undefined) texts.push(system)
  let tokens = PER_REQUEST
  for (const text of texts) tokens += PER_MESSAGE + Buffer.byteLength(text)
  if (schema !== undefined) tokens += PER_SCHEMA + SCHEMA_GROWTH * Buffer.byteLength(JSON.stringify(schema))
  return tokens
}
