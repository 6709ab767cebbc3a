import { ConfigError } from './config-error.ts'

/**
 * Cleans the text of a setting; undefined: unset. Removes surrounding white space and line breaks (a key pasted with its line break, a
 * file mounted as a secret) and one pair of matching quotes, which `docker run --env-file` and some shells keep.
 * @throws ConfigError if the intended value is ambiguous
 */
export function cleanSetting(name: string, raw: string | undefined): string | undefined {
  const trimmed = raw?.trim()
  if (!trimmed) return undefined
  const quote = /^(["'])(.*)\1$/s.exec(trimmed)
  const text = quote ? quote[2]!.trim() : trimmed
  if (text === '') return undefined
  if (/^["']|["']$/.test(text) && !isJson(text))
    throw new ConfigError(`${name}: has a quote at its beginning or end without a matching one; remove it`)
  // Line breaks within JSON have no meaning.
  if (/[\r\n]/.test(text) && !isJson(text)) throw new ConfigError(`${name}: holds a line break; write it on one line`)
  return text
}

const isJson = (text: string) => /^[[{]/.test(text)

/**
 * Cleans a key or token, which is sent in a header.
 * @throws ConfigError if it contains a character that no key has; the message does not contain the key
 */
export function cleanKey(name: string, raw: string | undefined): string | undefined {
  const text = cleanSetting(name, raw)
  const at = text?.search(/[^\x21-\x7e]/) ?? -1
  if (text === undefined || at === -1) return text
  const code = text.codePointAt(at)!.toString(16).toUpperCase().padStart(4, '0')
  throw new ConfigError(
    `${name}: holds the character U+${code} at position ${at + 1}, which no key has; copy the key alone, without spaces or typographic quotes`,
  )
}
