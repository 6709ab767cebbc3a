import { RE2JS } from 're2js'

/**
 * Matches the `pattern` of a schema in linear time. With JavaScript's engine, a client could block a worker for minutes
 * with `^(a+)+$`. Back references are refused, and look-around except look-aheads at the start of the text, which are
 * matched as separate patterns.
 */
export type LinearPattern = { test(text: string): boolean }

/** Patterns of popular libraries that use other look-around, with equivalents that do not. */
const REWRITTEN = new Map<string, LinearPattern | string>([
  // zod: z.iso.duration()
  [
    '^P(?:(\\d+W)|(?!.*W)(?=\\d|T\\d)(\\d+Y)?(\\d+M)?(\\d+D)?(T(?=\\d)(\\d+H)?(\\d+M)?(\\d+([.,]\\d+)?S)?)?)$',
    durationPattern(),
  ],
  // zod: z.emoji(). One repeated class, which is safe in JavaScript's engine; RE2 does not know these properties.
  [
    '^(?=[\\s\\S]*[\\p{Extended_Pictographic}\\p{Regional_Indicator}\\u20E3])[\\p{Extended_Pictographic}\\p{Emoji_Component}]+$',
    {
      test: text =>
        /\p{Extended_Pictographic}|\p{Regional_Indicator}|\u20E3/u.test(text) &&
        /^[\p{Extended_Pictographic}\p{Emoji_Component}]+$/u.test(text),
    },
  ],
  ['^(\\p{Extended_Pictographic}|\\p{Emoji_Component})+$', /^[\p{Extended_Pictographic}\p{Emoji_Component}]+$/u],
])

function durationPattern(): string {
  const seconds = '\\d+(?:[.,]\\d+)?S'
  const date = '(?:\\d+Y(?:\\d+M)?(?:\\d+D)?|\\d+M(?:\\d+D)?|\\d+D)'
  const time = `T(?:\\d+H(?:\\d+M)?(?:${seconds})?|\\d+M(?:${seconds})?|${seconds})`
  return `^P(?:\\d+W|${date}(?:${time})?|${time})$`
}

/** @throws Error if the pattern is invalid or cannot run in linear time */
export function linearPattern(pattern: string): LinearPattern {
  const known = REWRITTEN.get(pattern)
  if (typeof known === 'object') return known
  const { ahead, rest } = lookAheads(known ?? pattern)
  const parts = [...ahead, { source: rest, wanted: true }].map(({ source, wanted }) => {
    const compiled = RE2JS.compile(RE2JS.translateRegExp(source))
    return (text: string) => compiled.matcher(text).find() === wanted
  })
  return { test: text => parts.every(part => part(text)) }
}

type LookAhead = { source: string; wanted: boolean }

/** Splits `^(?=a)(?!b)c`: it matches a text that matches `^(?:a)` and `^c` but not `^(?:b)`. */
function lookAheads(pattern: string): { ahead: LookAhead[]; rest: string } {
  const ahead: LookAhead[] = []
  let at = 1
  while (pattern.startsWith('^') && /^\(\?[=!]/.test(pattern.slice(at, at + 3))) {
    const end = closing(pattern, at)
    if (end === null) break
    ahead.push({ source: `^(?:${pattern.slice(at + 3, end)})`, wanted: pattern[at + 2] === '=' })
    at = end + 1
  }
  // Here the look-aheads belong only to the first alternative, or are repeated.
  if (ahead.length === 0 || /^[*+?{]/.test(pattern.slice(at)) || hasAlternatives(pattern.slice(at)))
    return { ahead: [], rest: pattern }
  return { ahead, rest: `^${pattern.slice(at)}` }
}

const TOKEN = /\\.|\[(?:\\.|[^\]\\])*\]|[()|]/gs

/** The end of the group that begins at `from`. */
function closing(pattern: string, from: number): number | null {
  let depth = 0
  for (const { 0: token, index } of pattern.slice(from).matchAll(TOKEN)) {
    if (token === '(') depth++
    else if (token === ')' && --depth === 0) return from + index
  }
  return null
}

function hasAlternatives(pattern: string): boolean {
  let depth = 0
  for (const [token] of pattern.matchAll(TOKEN)) {
    if (token === '(') depth++
    else if (token === ')') depth--
    else if (token === '|' && depth === 0) return true
  }
  return false
}
