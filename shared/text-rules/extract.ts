import { splitSentences } from './sentences.ts'

/** Maximum number of sentences in a summary, because each takes time to select. */
export const MAX_SENTENCES = 100
/** Maximum length of a sentence, because a text without punctuation is a single sentence. */
export const MAX_LENGTH = 600
/** The selection considers only this many of the best sentences. */
const CANDIDATES = 1000
/** Minimum divisor for the mean score, because the mean over a few good words says little. */
const FEW_WORDS = 8
/** Factor for the first sentence, which usually states the subject (location method of Edmundson, JACM 16(2), 1969). */
const FIRST = 1.25

const STOP_WORDS: ReadonlySet<string> = new Set(
  (
    'a about above after again against all also am an and any are as at be because been before being below between both ' +
    'but by can cannot could did do does doing down during each even few for from further get got had has have having ' +
    'he her here hers herself him himself his how however i if in into is it its itself just let like may me might more ' +
    'most much must my myself no nor not now of off on once one only or other our ours ourselves out over own per quite ' +
    'rather said same say says shall she should since so some still such than that the their theirs them themselves then ' +
    'there therefore these they this those though through thus to too under until up upon us very was we well were what ' +
    'when where whether which while who whom whose why will with within without would yet you your yours yourself re ve ' +
    'll don isn doesn didn won wasn weren aren hasn haven couldn wouldn shouldn'
  ).split(' '),
)

// In languages without spaces, each character counts as a word.
const WORD = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]|[\p{L}\p{N}]+/gu

/** Words except stop words, with plurals mapped to the singular. */
function contentWords(sentence: string): string[] {
  const words =
    sentence
      .slice(0, 10 * MAX_LENGTH)
      .toLowerCase()
      .match(WORD) ?? []
  return words
    .filter(word => !STOP_WORDS.has(word) && !/^[a-z\d]$/.test(word))
    .map(word => (word.length > 3 && word.endsWith('s') && !word.endsWith('ss') ? word.slice(0, -1) : word))
}

/**
 * Selects the key sentences of a text, in their order, by SumBasic (Nenkova & Vanderwende, MSR-TR-2005-101): the
 * probability of a word is its share of the content words, and a sentence scores the mean of its words. After each
 * selection, the probabilities of the selected words are squared, so that the next sentence covers something else.
 * @param maxSentences at least 1; at most `MAX_SENTENCES` are returned
 * @returns sentences with single spaces, cut with `…` at `MAX_LENGTH` characters; empty if the text has none
 */
export function keySentences(text: string, maxSentences: number): string[] {
  const wanted = Math.min(Math.max(0, Math.floor(maxSentences)), MAX_SENTENCES)
  const seen = new Set<string>()
  const sentences = splitSentences(text).filter(sentence => {
    const isNew = !seen.has(sentence) && /[\p{L}\p{N}]/u.test(sentence)
    seen.add(sentence)
    return isNew
  })
  if (sentences.length <= wanted) return sentences.map(cut)

  const all = sentences.map((sentence, position) => ({ position, words: contentWords(sentence), score: 0 }))
  const probability = new Map<string, number>()
  const share =
    1 /
    Math.max(
      1,
      all.reduce((sum, { words }) => sum + words.length, 0),
    )
  for (const { words } of all) for (const word of words) probability.set(word, (probability.get(word) ?? 0) + share)

  const score = ({ words, position }: (typeof all)[number]) =>
    (words.reduce((sum, word) => sum + probability.get(word)!, 0) / Math.max(FEW_WORDS, words.length)) *
    (position === 0 ? FIRST : 1)
  for (const one of all) one.score = score(one)

  let left = all.toSorted((a, b) => b.score - a.score || a.position - b.position).slice(0, CANDIDATES)
  const taken: number[] = []
  while (taken.length < wanted && left.length > 0) {
    const best = left.reduce((a, b) => (b.score > a.score ? b : a))
    taken.push(best.position)
    for (const word of new Set(best.words)) probability.set(word, probability.get(word)! ** 2)
    left = left.filter(one => one !== best)
    for (const one of left) one.score = score(one)
  }
  return taken.sort((a, b) => a - b).map(position => cut(sentences[position]!))
}

/** Shortens a sentence at its last space, if that is in the last third. */
function cut(sentence: string): string {
  if (sentence.length <= MAX_LENGTH) return sentence
  const head = sentence.slice(0, MAX_LENGTH - 1)
  const space = head.lastIndexOf(' ')
  // The cut may split a surrogate pair.
  return `${(space > (MAX_LENGTH * 2) / 3 ? head.slice(0, space) : head).replace(/[\uD800-\uDBFF]$/, '')}…`
}
