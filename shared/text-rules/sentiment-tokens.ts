import { FACES, WORDS } from './sentiment-lexicon.ts'

/** `shout`: written in capitals. Punctuation marks are separate tokens. */
export type Token = { word: string; shout: boolean }

const literally = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
const emoticons = [...FACES.keys()]
  .filter(face => !/\p{Extended_Pictographic}/u.test(face))
  .sort((a, b) => b.length - a.length)
  .map(literally)

// Emoticons do not follow a letter or digit directly: `https://` and `at 10:(…` contain none. No part can match the
// start of the next one, so the time is linear.
const TOKEN = new RegExp(
  [
    String.raw`https?://\S+`,
    `(?<![\\p{L}\\p{N}])(?:${emoticons.join('|')})`,
    String.raw`\p{Extended_Pictographic}`,
    String.raw`[\p{L}\p{N}]+(?:['-][\p{L}\p{N}]+)*`,
    String.raw`[.,;:!?…\n]`,
  ].join('|'),
  'gu',
)

const SHORT: [ending: string, full: string][] = [
  ["n't", ' not'],
  ["'m", ' am'],
  ["'re", ' are'],
  ["'ve", ' have'],
  ["'ll", ' will'],
  ["'d", ' would'],
  ["'s", ''],
]
const IRREGULAR: Record<string, string> = {
  "can't": 'can not',
  "won't": 'will not',
  cannot: 'can not',
  cant: 'can not',
}

function expand(word: string): string[] {
  const whole = IRREGULAR[word]
  if (whole) return whole.split(' ')
  if (word.includes("'")) {
    const short = SHORT.find(([ending]) => word.endsWith(ending))
    if (short) return (word.slice(0, -short[0].length) + short[1]).split(' ')
  }
  // `well-made` is in the lexicon; `not-so-good` is three words.
  return word.includes('-') && !WORDS.has(word) ? word.split('-') : [word]
}

/** Splits a text into words in lower case with contractions expanded, emoticons and punctuation. Omits URLs. */
export function tokenise(text: string): Token[] {
  const tokens: Token[] = []
  for (const [raw] of text.replaceAll(/[’‘]/g, "'").matchAll(TOKEN)) {
    if (/^https?:/.test(raw)) continue
    if (FACES.has(raw)) {
      tokens.push({ word: raw, shout: false })
      continue
    }
    const shout = raw.length > 2 && raw === raw.toUpperCase() && raw !== raw.toLowerCase()
    for (const word of expand(raw.toLowerCase())) tokens.push({ word, shout })
  }
  return tokens
}

/** Endings of regular forms, and their replacements in the stem. */
const ENDINGS: [ending: string, instead: string][] = [
  ['ies', 'y'],
  ['ied', 'y'],
  ['ily', 'y'],
  ['ing', ''],
  ['ing', 'e'],
  ['es', ''],
  ['ed', ''],
  ['ly', ''],
  ['s', ''],
  ['d', ''],
  ['ness', ''],
]

function stemmed(word: string): number | undefined {
  for (const [ending, instead] of ENDINGS) {
    const length = word.length - ending.length
    if (length < 3 || !word.endsWith(ending)) continue
    const weight = WORDS.get(word.slice(0, length) + instead)
    if (weight !== undefined) return weight
  }
  return undefined
}

/** The weight of a word, of its stem, or of its form without repeated letters (`sooo goood`); 0: none. */
export function weigh(word: string): number {
  const known = FACES.get(word) ?? WORDS.get(word) ?? stemmed(word)
  if (known !== undefined || !/(\p{L})\1\1/u.test(word)) return known ?? 0
  return (
    WORDS.get(word.replaceAll(/(\p{L})\1{2,}/gu, '$1$1')) ?? WORDS.get(word.replaceAll(/(\p{L})\1{2,}/gu, '$1')) ?? 0
  )
}
