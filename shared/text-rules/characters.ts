import { resolveConfusablesTransformer } from 'obscenity'
import CONFUSABLES from 'unhomoglyph/data.json' with { type: 'json' }

/**
 * Maps single characters to what readers see. Data: Unicode's normal forms, its confusables (UTS #39), and a wider list
 * of lookalikes.
 */

const confusables: Readonly<Record<string, string | undefined>> = CONFUSABLES
const lookalikes = resolveConfusablesTransformer()

const INVISIBLE = /^[\p{Default_Ignorable_Code_Point}\p{Cf}\p{Cc}]$/u
/** Accents that belong to no script. The vowel signs of a script are part of its words and stay. */
const ACCENT = /^(?:(?=\p{M})\p{Script=Inherited}|\p{Me})$/u
/** Enclosed letters and digits, which have no normal form, including the letters of flags. */
const ENCLOSED = /^[\u2460-\u24ff\u2776-\u2793\u{1f100}-\u{1f1ff}]$/u
const ALPHABETIC = /^[\p{Script=Latin}\p{Script=Greek}\p{Script=Cyrillic}]$/u
/** Bounds the growth of a text by characters with a long normal form, such as U+FDFA. */
const MAX_EXPANSION = 4

/** Lookalikes that both lists lack. */
const OTHER_LETTERS: Readonly<Record<string, string>> = {
  ꜰ: 'f',
  ꞯ: 'q',
  ɔ: 'c',
  ɟ: 'f',
  ɹ: 'r',
  ᴉ: 'i',
  ι: 'i',
  л: 'l',
}

const memoized = <T>(make: (codePoint: number) => T) => {
  const known = new Map<number, T>()
  return (codePoint: number): T => {
    const value = known.get(codePoint)
    if (value !== undefined) return value
    const made = make(codePoint)
    known.set(codePoint, made)
    return made
  }
}

export const isMark = memoized(codePoint => /^\p{M}$/u.test(String.fromCodePoint(codePoint)))

/**
 * The character without typography: compatibility forms, digits of all scripts, dashes, spaces and accents become ASCII
 * where it has an equivalent; '' for an invisible character. Letters of other scripts stay.
 */
export const plainOf = memoized(codePoint => {
  const char = String.fromCodePoint(codePoint)
  if (/[\t-\r\u0085\u2028\u2029]/.test(char)) return char > '~' ? '\n' : char
  if (INVISIBLE.test(char) || ACCENT.test(char)) return ''
  // The blank Braille pattern is a symbol to Unicode.
  if (/[\p{Zs}\u2800]/u.test(char)) return ' '
  if (/\p{Pd}|\u2212/u.test(char)) return '-'
  if (/\p{Nd}/u.test(char)) return digitOf(codePoint)
  if (char === '\u3002' || char === '\uff61') return '.'
  // A fraction next to a number is not one of its digits.
  if (/[\u00bc-\u00be\u2150-\u215f\u2189]/.test(char)) return char
  const normal = char.normalize('NFKC')
  if (normal.length > MAX_EXPANSION) return char
  if (normal === char && ENCLOSED.test(char)) return lookalikeOf(char) ?? char
  return [...normal].map(plainSymbol).join('')
})

function plainSymbol(char: string): string {
  if (char <= '~') return char
  const [base] = char.normalize('NFD')
  if (base !== char && ALPHABETIC.test(base!)) return base!
  if (/\p{Nd}/u.test(char)) return digitOf(char.codePointAt(0)!)
  if (!/[\p{P}\p{S}]/u.test(char)) return char
  const punctuation = confusables[char]
  return punctuation && /^[!-/:-@[-`{-~]$/.test(punctuation) ? punctuation : char
}

/** The digits of each script, and of each mathematical set, have consecutive code points from 0 to 9. */
function digitOf(codePoint: number): string {
  let zero = codePoint
  while (/\p{Nd}/u.test(String.fromCodePoint(zero - 1))) zero--
  return String((codePoint - zero) % 10)
}

export type Script = 'latin' | 'similar' | 'other'

/** The script of a letter; null: not a letter. `similar`: Greek or Cyrillic, whose letters can pass for Latin ones. */
export const scriptOf = memoized((codePoint): Script | null => {
  const char = String.fromCodePoint(codePoint)
  if (!/\p{L}/u.test(char)) return null
  if (/\p{Script=Latin}/u.test(char)) return 'latin'
  return /[\p{Script=Greek}\p{Script=Cyrillic}]/u.test(char) ? 'similar' : 'other'
})

/** The ASCII letter that looks the same, by Unicode's confusables; null: none. */
export const confusableOf = memoized((codePoint): string | null => {
  const char = String.fromCodePoint(codePoint)
  const same = confusables[char]
  if (same === undefined || !/^[A-Za-z]$/.test(same)) return null
  // Unicode maps both I and l to l.
  return same === 'l' && /\p{Lu}/u.test(char) ? 'I' : same
})

/** The ASCII letter or digit that this letter replaces in disguised Latin words; null: none. */
export const lookalikeLetterOf = memoized((codePoint): string | null => {
  const char = String.fromCodePoint(codePoint)
  const like = OTHER_LETTERS[char] ?? confusableOf(codePoint) ?? lookalikeOf(char)
  return like !== null && /\p{Ll}/u.test(char) ? like.toLowerCase() : like
})

function lookalikeOf(char: string): string | null {
  const like = String.fromCodePoint((lookalikes.transform as (char: number) => number)(char.codePointAt(0)!))
  return /^[A-Za-z0-9]$/.test(like) ? like : null
}
