/**
 * Weight of each signal, 0 to 1, and the threshold from which it counts. Signals combine as independent evidence
 * (1 - product of (1 - weight)): a single signal is not sufficient for spam, several strong ones are.
 */
export const SPAM_SIGNALS = {
  /** Number of links, whatever the length of the text. */
  manyLinks: { weight: 0.35, from: 4 },
  /** Share of links among words and links. A single link is normal sharing. */
  mostlyLinks: { weight: 0.4, from: 0.15, minLinks: 2 },
  /** A shortened link hides its target. */
  shortener: { weight: 0.3 },
  /** A link to a bare IP address; legitimate sites have names. */
  addressLink: { weight: 0.3 },
  /** Share of the most frequent word (of 4 letters or more) among all words. */
  repeatedWord: { weight: 0.4, from: 0.25, minWords: 12 },
  /** Repetitions of a word in a row. */
  wordInARow: { weight: 0.4, from: 4 },
  /** Repetitions of a letter or mark in a row, except for drawn lines. */
  characterInARow: { weight: 0.25, from: 8 },
  /** Share of duplicate lines. */
  repeatedLines: { weight: 0.5, from: 0.5, minLines: 4, minLength: 8 },
  /** Share of capital letters. Headings and acronyms are shorter than `minLetters`. */
  shouting: { weight: 0.3, from: 0.6, minLetters: 30 },
  /** Exclamation marks in a row, or per word. */
  exclamations: { weight: 0.2, inARow: 3, toWords: 0.2, min: 3 },
  /** Weight of each phrase, and the maximum of all phrases together. */
  phrases: { strong: 0.4, weak: 0.15, most: 0.85 },
} as const

export const SHORTENERS: readonly string[] =
  'adf.ly bit.do bit.ly buff.ly cutt.ly goo.gl is.gd ow.ly rb.gy rebrand.ly s.id shorte.st shorturl.at t.ly tiny.cc tinyurl.com v.gd'.split(
    ' ',
  )

/** Phrases that are rare outside spam. */
export const STRONG_PHRASES: readonly string[] = [
  '100% free',
  '100% guaranteed',
  'act now',
  'be your own boss',
  'buy followers',
  'cheap viagra',
  'claim your prize',
  'claim your reward',
  'congratulations you have been selected',
  'congratulations you have won',
  'double your bitcoin',
  'double your money',
  'earn extra cash',
  'earn money fast',
  'earn money from home',
  'free gift card',
  'get rich quick',
  'guaranteed income',
  'lose weight fast',
  'make money fast',
  'make money online',
  'miracle cure',
  'no credit check',
  'online casino',
  'online pharmacy',
  'risk free investment',
  'this is not spam',
  'work from home and earn',
  'you are a winner',
  'you have been selected to',
  'you have won',
]

/** Phrases that legitimate texts also contain, but fewer at once. */
export const WEAK_PHRASES: readonly string[] = [
  'best price',
  'buy now',
  'call now',
  'cash bonus',
  'click below',
  'click here',
  'click the link',
  'dm me',
  'don’t miss out',
  "don't miss out",
  'exclusive deal',
  'financial freedom',
  'free trial',
  'hurry up',
  'limited time offer',
  'limited time only',
  'lowest price',
  'no strings attached',
  'once in a lifetime',
  'order now',
  'passive income',
  'risk free',
  'satisfaction guaranteed',
  'special promotion',
  'subscribe to my channel',
  'urgent response',
  'while supplies last',
  'winner',
]
