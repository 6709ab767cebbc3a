import { PHRASES } from './sentiment-phrases.ts'
import { type Token, tokenise, weigh } from './sentiment-tokens.ts'

/** `score`: -1 to 1. `confidence`: 0 to 1, from the strength and agreement of the words; a rank, not a probability. */
export type Sentiment = { label: 'positive' | 'negative' | 'neutral'; confidence: number; score: number }

const words = (list: string): ReadonlySet<string> => new Set(list.split(' '))

const NEGATIONS = words(
  'not no never nothing nobody none neither nor without hardly barely scarcely rarely seldom less',
)
const STRONGER = words(
  'very really so extremely absolutely totally completely incredibly insanely highly truly utterly especially super ' +
    'awfully terribly amazingly remarkably exceptionally extraordinarily ridiculously deeply particularly such most ' +
    'pretty too seriously thoroughly entirely definitely way much far even',
)
const WEAKER = words(
  'slightly somewhat fairly bit little rather quite partly mildly occasionally sometimes almost kinda',
)
const TURNS = words('but however yet nevertheless nonetheless')
const CONCESSIONS = words('although though despite while whereas')
const CONDITIONS = words('if whether unless')
/** Negations of two words. */
const NEGATING_PAIRS: ReadonlySet<string> = new Set(['far from', 'nowhere near', 'anything but'])
const ENDS = words('. ! ? … \n')
const PAUSES = words(', ; :')
const FUNCTION_WORDS = words(
  'the a an is are was were it this that i you we they and of to in for on with my your not be',
)

/**
 * Number of words that a negation affects, up to the next pause: "not a very good", but not the rest of the sentence.
 */
const REACH = 4
/**
 * Factors for a negated word: "not great" is less negative than "bad", and "not bad" much less positive than "good".
 */
const NEGATED = { positive: -0.75, negative: -0.5 }
/** Factor for questions and conditions: "are there problems?" does not report a problem. */
const SUPPOSED = 0.4
const BEFORE_BUT = 0.5
const AFTER_BUT = 1.5
/** A score is neutral up to this absolute value. A single word of weight 1 is still neutral. */
const THRESHOLD = 0.3

const phrasesByFirst = Map.groupBy(
  PHRASES.toSorted((a, b) => b.words.length - a.words.length),
  phrase => phrase.words[0]!,
)

/** The end of the match of `phrase` (from its word `from`) at `at`; -1: no match. `*` matches one to three words. */
function matchEnd(tokens: Token[], at: number, phrase: string[], from = 0): number {
  if (from === phrase.length) return at
  if (phrase[from] !== '*') return tokens[at]?.word === phrase[from] ? matchEnd(tokens, at + 1, phrase, from + 1) : -1
  return [1, 2, 3].map(more => matchEnd(tokens, at + more, phrase, from + 1)).find(end => end >= 0) ?? -1
}

function phraseAt(tokens: Token[], at: number): { weight: number; end: number } | null {
  for (const { words: phrase, weight } of phrasesByFirst.get(tokens[at]!.word) ?? []) {
    const end = matchEnd(tokens, at, phrase)
    if (end >= 0) return { weight, end }
  }
  return null
}

/** The effect of the preceding words on the next word with a weight. */
type Scope = { negations: number[]; strength: number; concession: boolean; condition: boolean }

/** @returns the weights of the words in a sentence, modified by the words around them */
function weights(sentence: Token[], heedCapitals: boolean): number[] {
  let found: number[] = []
  const fresh = (): Scope => ({ negations: [], strength: 1, concession: false, condition: false })
  let scope = fresh()
  let turned = false

  const add = (weight: number, at: number, shout: boolean) => {
    const negated = scope.negations.filter(position => at - position <= REACH).length
    let value = weight * scope.strength
    if (negated % 2 === 1) value *= weight > 0 ? NEGATED.positive : NEGATED.negative
    if (shout && heedCapitals) value *= 1.3
    if (scope.condition) value *= SUPPOSED
    if (scope.concession) value *= BEFORE_BUT
    found.push(turned ? value * AFTER_BUT : value)
    scope.strength = 1
  }

  const negate = (at: number) => {
    scope.negations = [...scope.negations.filter(position => at - position <= REACH), at]
  }

  for (let at = 0; at < sentence.length; at++) {
    const { word, shout } = sentence[at]!
    const phrase = phraseAt(sentence, at)
    if (phrase) {
      if (phrase.weight !== 0) add(phrase.weight, at, shout)
      at = phrase.end - 1
      continue
    }
    const next = sentence[at + 1]
    if (PAUSES.has(word)) scope = fresh()
    else if (next && NEGATING_PAIRS.has(`${word} ${next.word}`)) {
      at++
      negate(at)
    } else if (word === 'and') scope.negations = []
    else if (TURNS.has(word)) {
      // Only at the first turn: doing it at every one would be quadratic.
      if (!turned) found = found.map(weight => weight * BEFORE_BUT)
      turned = true
      scope = fresh()
    } else if (CONCESSIONS.has(word)) scope.concession = true
    else if (CONDITIONS.has(word)) scope.condition = true
    else if (NEGATIONS.has(word)) {
      // "neither good nor bad" is not a double negation, and "not only good" is no negation.
      if (word === 'nor') scope.negations = []
      if (next?.word !== 'only') negate(at)
    } else {
      const weight = weigh(word)
      // "pretty good", "terribly slow": the first word is only an intensifier if the second one has a weight.
      const strengthens = STRONGER.has(word) && (weight === 0 || (next && weigh(next.word) !== 0))
      if (strengthens) scope.strength *= 1.3
      else if (WEAKER.has(word)) scope.strength *= 0.7
      else if (weight !== 0) add(weight, at, shout)
    }
  }
  return found
}

function sentences(tokens: Token[]): { tokens: Token[]; exclamations: number; question: boolean }[] {
  const all = []
  let start = 0
  for (let at = 0; at < tokens.length; at++) {
    if (!ENDS.has(tokens[at]!.word)) continue
    let end = at
    while (end < tokens.length && ENDS.has(tokens[end]!.word)) end++
    const marks = tokens.slice(at, end).map(token => token.word)
    const exclamations = marks.filter(mark => mark === '!').length
    all.push({ tokens: tokens.slice(start, at), exclamations, question: marks.includes('?') })
    start = end
    at = end - 1
  }
  all.push({ tokens: tokens.slice(start), exclamations: 0, question: false })
  return all
}

/**
 * The sentiment of an English text, by rules. Words, idioms and emoticons have weights; negations, intensifiers, "but",
 * conditions, questions, capitals and exclamation marks modify them. Deterministic, in linear time. Recognizes irony
 * only in a few set phrases, and facts ("it broke") only by their words.
 *
 * The sum S of the weights becomes S / sqrt(S² + 15), as in VADER (Hutto & Gilbert, ICWSM 2014). It is first divided by
 * the square root of the number of sentences with a weight, because the sum of stray weights in a neutral text grows at
 * that rate.
 */
export function sentiment(text: string): Sentiment {
  const tokens = tokenise(text)
  // Capitals are no emphasis in a text that is all capitals.
  const heedCapitals = text !== text.toUpperCase()
  let [sum, size, weighed] = [0, 0, 0]
  for (const one of sentences(tokens)) {
    const factor = (one.question ? SUPPOSED : 1) * (1 + 0.15 * Math.min(one.exclamations, 3))
    const found = weights(one.tokens, heedCapitals)
    if (found.length > 0) weighed++
    for (const weight of found) {
      sum += weight * factor
      size += Math.abs(weight * factor)
    }
  }
  if (size === 0) {
    // Without a common English word, the text is probably in another language, which these rules do not cover.
    const english = tokens.some(token => FUNCTION_WORDS.has(token.word))
    return { label: 'neutral', confidence: english ? 0.6 : tokens.length > 0 ? 0.2 : 0, score: 0 }
  }
  const mean = sum / Math.sqrt(weighed)
  const score = round(mean / Math.sqrt(mean * mean + 15))
  if (Math.abs(score) <= THRESHOLD) return { label: 'neutral', confidence: round(0.6 - Math.abs(score)), score }
  const unanimity = Math.abs(sum) / size
  return {
    label: score > 0 ? 'positive' : 'negative',
    confidence: round(0.4 + 0.6 * Math.abs(score) * unanimity),
    score,
  }
}

const round = (value: number): number => Math.round(value * 10_000) / 10_000
