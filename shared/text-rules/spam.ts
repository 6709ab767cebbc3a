import { readingsOf } from './readings.ts'
import { SHORTENERS, SPAM_SIGNALS, STRONG_PHRASES, WEAK_PHRASES } from './spam-data.ts'

type Signal = { weight: number; reason: string }

const anyOf = (words: readonly string[]) => words.map(one => one.replace(/[.+$]/g, '\\$&')).join('|')

const LINK = /(?<![\p{L}\p{N}])(?:https?:\/\/|www\.)[^\s<>"'()[\]]+/giu
const SHORT_LINK = new RegExp(`(?<![\\w.@-])(?:${anyOf(SHORTENERS)})/[\\w-]`, 'i')
const ADDRESS_LINK = /https?:\/\/(?:\d{1,3}\.){3}\d{1,3}(?![\d.])/i
/** Loopback and private addresses do not count. */
const OWN_ADDRESS = /https?:\/\/(?:127|10|0|192\.168|172\.(?:1[6-9]|2\d|3[01]))\./gi
/** Excludes digits and characters that draw lines, tables and pauses. */
const IN_A_ROW = new RegExp(`([^\\s\\d=_*~#.+|<>\\u2500-\\u257f-])\\1{${SPAM_SIGNALS.characterInARow.from - 1},}`, 'u')
const STRONG = new RegExp(`(?<![\\p{L}\\p{N}])(?:${anyOf(STRONG_PHRASES)})(?![\\p{L}\\p{N}])`, 'gu')
const WEAK = new RegExp(`(?<![\\p{L}\\p{N}])(?:${anyOf(WEAK_PHRASES)})(?![\\p{L}\\p{N}])`, 'gu')

type Spam = { score: number; reasons: string[] }

/** Scores how much a text looks like spam, 0 to 1, with the reasons; the worst of all readings. Deterministic. */
export const spamSignals = (text: string): Spam =>
  readingsOf(text)
    .map(reading => signalsOf(reading.text))
    .reduce((worst, one) => (one.score > worst.score ? one : worst))

function signalsOf(text: string): Spam {
  const links = text.match(LINK) ?? []
  const prose = text.replace(LINK, ' ')
  const words = prose.toLowerCase().match(/[\p{L}\p{N}'’]+/gu) ?? []
  const signals = [
    ...linkSignals(text, links, words.length),
    ...repetition(text, prose, words),
    ...shouting(prose, words.length),
  ]
  const phrases = phraseSignal(prose)
  if (phrases) signals.push(phrases)
  const innocence = signals.reduce((left, one) => left * (1 - one.weight), 1)
  return { score: Math.round((1 - innocence) * 1000) / 1000, reasons: signals.map(one => one.reason) }
}

function linkSignals(text: string, links: readonly string[], words: number): Signal[] {
  const { manyLinks, mostlyLinks, shortener, addressLink } = SPAM_SIGNALS
  const signals: Signal[] = []
  if (links.length >= manyLinks.from) signals.push({ weight: manyLinks.weight, reason: `${links.length} links` })
  if (links.length >= mostlyLinks.minLinks && links.length / (words + links.length) >= mostlyLinks.from) {
    signals.push({ weight: mostlyLinks.weight, reason: 'little but links' })
  }
  if (SHORT_LINK.test(text.replaceAll('://', ':// '))) {
    signals.push({ weight: shortener.weight, reason: 'a shortened link' })
  }
  if (ADDRESS_LINK.test(text.replace(OWN_ADDRESS, ''))) {
    signals.push({ weight: addressLink.weight, reason: 'a link to a bare IP address' })
  }
  return signals
}

function repetition(text: string, prose: string, words: readonly string[]): Signal[] {
  const { repeatedWord, wordInARow, characterInARow, repeatedLines } = SPAM_SIGNALS
  const signals: Signal[] = []
  const [word, times] = mostFrequent(words.filter(one => one.length >= 4))
  if (words.length >= repeatedWord.minWords && times / words.length >= repeatedWord.from) {
    signals.push({ weight: repeatedWord.weight, reason: `“${word.slice(0, 40)}” ${times} times` })
  }
  if (longestRow(words) >= wordInARow.from) {
    signals.push({ weight: wordInARow.weight, reason: `a word ${wordInARow.from} times or more in a row` })
  }
  if (IN_A_ROW.test(prose)) {
    signals.push({
      weight: characterInARow.weight,
      reason: `a character ${characterInARow.from} times or more in a row`,
    })
  }
  const lines = text
    .split('\n')
    .map(line => line.trim())
    .filter(line => line.length >= repeatedLines.minLength)
  if (lines.length >= repeatedLines.minLines && 1 - new Set(lines).size / lines.length >= repeatedLines.from) {
    signals.push({ weight: repeatedLines.weight, reason: 'the same lines again and again' })
  }
  return signals
}

function mostFrequent(words: readonly string[]): [string, number] {
  const counts = new Map<string, number>()
  let most: [string, number] = ['', 0]
  for (const word of words) {
    const times = (counts.get(word) ?? 0) + 1
    counts.set(word, times)
    if (times > most[1]) most = [word, times]
  }
  return most
}

function longestRow(words: readonly string[]): number {
  let longest = 0
  let row = 0
  words.forEach((word, i) => {
    // Tables repeat numbers.
    row = word === words[i - 1] && !/^\d+$/.test(word) ? row + 1 : 1
    longest = Math.max(longest, row)
  })
  return longest
}

function shouting(prose: string, words: number): Signal[] {
  const { shouting: capitals, exclamations } = SPAM_SIGNALS
  const signals: Signal[] = []
  const upper = prose.match(/\p{Lu}/gu)?.length ?? 0
  const cased = upper + (prose.match(/\p{Ll}/gu)?.length ?? 0)
  if (cased >= capitals.minLetters && upper / cased >= capitals.from) {
    signals.push({ weight: capitals.weight, reason: 'mostly capitals' })
  }
  const marks = prose.match(/!/g)?.length ?? 0
  const isLoud = prose.includes('!'.repeat(exclamations.inARow)) || marks / Math.max(1, words) >= exclamations.toWords
  if (marks >= exclamations.min && isLoud) {
    signals.push({ weight: exclamations.weight, reason: `${marks} exclamation marks` })
  }
  return signals
}

function phraseSignal(prose: string): Signal | null {
  const { strong, weak, most } = SPAM_SIGNALS.phrases
  const { strongOnes, weakOnes } = phrasesIn(prose)
  if (strongOnes.length + weakOnes.length === 0) return null
  const innocence = (1 - strong) ** strongOnes.length * (1 - weak) ** weakOnes.length
  const quoted = [...strongOnes, ...weakOnes].map(one => `“${one}”`).join(', ')
  return { weight: Math.min(most, 1 - innocence), reason: `says ${quoted}` }
}

function phrasesIn(prose: string): { strongOnes: string[]; weakOnes: string[] } {
  // Ignores punctuation within phrases: “Congratulations! You have won”.
  const plain = prose.toLowerCase().replace(/[\s!,.:;*_-]+/g, ' ')
  return { strongOnes: [...new Set(plain.match(STRONG) ?? [])], weakOnes: [...new Set(plain.match(WEAK) ?? [])] }
}

/** The spam phrases in all readings of a text. */
export const spamPhrases = (text: string): Set<string> =>
  new Set(readingsOf(text).flatMap(reading => Object.values(phrasesIn(reading.text)).flat()))
