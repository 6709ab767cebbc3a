import { SluiceError } from '#shared/errors.ts'

/** Where a text stops being JSON. `offset` counts characters from 0, `line` and `column` count from 1. */
export type JsonErrorPosition = { offset: number; line: number; column: number }

/** @param text a body that JSON.parse or the check for prototype keys refused */
export function invalidJson(text: string): SluiceError {
  const position = locateJsonError(text)
  if (!position)
    return new SluiceError('invalid_json', 'The body has a key `__proto__` or `constructor.prototype`.', {
      context: { field: '/' },
    })
  const { offset, line, column } = position
  const found =
    offset === text.length ? 'end of the body' : JSON.stringify(String.fromCodePoint(text.codePointAt(offset)!))
  return new SluiceError(
    'invalid_json',
    `The body is not valid JSON: unexpected ${found} at line ${line}, column ${column}.`,
    { context: { field: '/', ...position } },
  )
}

const SPACE = /[ \t\n\r]*/y
const SCALAR = /true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
/** Characters of a string that need no escape. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON forbids them in strings
const PLAIN = /[^"\\\x00-\x1f]*/y
const ESCAPE = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y

/** The end of a match at `at`; null: no match. */
function endOf(pattern: RegExp, text: string, at: number): number | null {
  pattern.lastIndex = at
  return pattern.test(text) ? pattern.lastIndex : null
}

/**
 * Finds the first error in a text; null: it is JSON. Needed because V8 names the position only in some of its messages. Does not
 * recurse, so that the depth of the text does not matter. Takes about as long as JSON.parse: a body may have 8 MB.
 */
export function locateJsonError(text: string): JsonErrorPosition | null {
  /** The closing brackets of the open objects and arrays, innermost last. */
  const closers: string[] = []
  let expected: 'value' | 'first value' | 'key' | 'first key' | 'colon' | 'comma' | 'end' = 'value'
  let at = 0
  for (;;) {
    if (text.charCodeAt(at) <= 0x20) at = endOf(SPACE, text, at)!
    const char = text[at]
    if (char === undefined) return expected === 'end' ? null : positionOf(text, at)
    const isValue = expected === 'value' || expected === 'first value'
    const isKey = expected === 'key' || expected === 'first key'
    let end: number | null = at + 1
    if (isValue && (char === '{' || char === '[')) {
      closers.push(char === '{' ? '}' : ']')
      expected = char === '{' ? 'first key' : 'first value'
    } else if (char === closers.at(-1) && (expected === 'comma' || expected.startsWith('first'))) {
      closers.pop()
      expected = closers.length === 0 ? 'end' : 'comma'
    } else if (expected === 'comma' && char === ',') {
      expected = closers.at(-1) === '}' ? 'key' : 'value'
    } else if (expected === 'colon' && char === ':') {
      expected = 'value'
    } else if (isKey && char === '"') {
      const string = scanString(text, at)
      if (!string.isClosed) return positionOf(text, string.end)
      end = string.end
      expected = 'colon'
    } else if (isValue) {
      const string = char === '"' ? scanString(text, at) : null
      if (string && !string.isClosed) return positionOf(text, string.end)
      end = string ? string.end : endOf(SCALAR, text, at)
      expected = closers.length === 0 ? 'end' : 'comma'
    } else {
      end = null
    }
    if (end === null) return positionOf(text, at)
    at = end
  }
}

/** Scans to behind the closing quote, or to the first error. @param start offset of the opening quote */
function scanString(text: string, start: number): { end: number; isClosed: boolean } {
  let at = start + 1
  for (;;) {
    at = endOf(PLAIN, text, at)!
    if (text[at] === '"') return { end: at + 1, isClosed: true }
    const end = text[at] === '\\' ? endOf(ESCAPE, text, at) : null
    if (end === null) return { end: at, isClosed: false }
    at = end
  }
}

function positionOf(text: string, offset: number): JsonErrorPosition {
  let line = 1
  let lineStart = 0
  for (let at = text.indexOf('\n'); at >= 0 && at < offset; at = text.indexOf('\n', at + 1)) {
    line++
    lineStart = at + 1
  }
  return { offset, line, column: offset - lineStart + 1 }
}
