/** What a request is made of, as far as its input tokens go. */
export type TokenSource = {
  system?: string | undefined
  messages: readonly { content: string }[]
  /** JSON Schema of the wanted answer, sent along in some form by every adapter. */
  schema?: Record<string, unknown> | undefined
}

/** Role marks and separators around one message, the system prompt included: 3 to 8 tokens in the known templates. */
const PER_MESSAGE = 16

/** What a provider's template says by itself, such as the date and the model's name. */
const PER_REQUEST = 256

/** The provider's own words about answering in JSON. */
const PER_SCHEMA = 1024

/** Adapters and providers rewrite a schema: what they cannot enforce becomes text, in quotes within quotes. */
const SCHEMA_GROWTH = 4

/**
 * An upper bound of the input tokens of a request. Tokenizers of these models work on bytes, or fall back to them: no token
 * stands for less than one byte of UTF-8, so that there are at most as many tokens as bytes. English has about four
 * bytes a token, so this is generous; it needs no tokenizer and no knowledge of the model.
 */
export function upperBoundTokens({ system, messages, schema }: TokenSource): number {
  const texts = messages.map(one => one.content)
  if (system !== undefined) texts.push(system)
  let tokens = PER_REQUEST
  for (const text of texts) tokens += PER_MESSAGE + Buffer.byteLength(text)
  if (schema !== undefined) tokens += PER_SCHEMA + SCHEMA_GROWTH * Buffer.byteLength(JSON.stringify(schema))
  return tokens
}
