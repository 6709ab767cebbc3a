/**
 * How much each signal says, from 0 to 1, and from where on it counts. They are combined as independent pieces of
 * evidence (1 - product of (1 - weight)): none alone makes spam of a text, several strong ones do.
 */
export const SPAM_SIGNALS = {
  /** This many links, however long the text. */
  manyLinks: { weight: 0.35, from: 4 },
  /** Links to words: a text that is little but links. A single link is how people share one. */
  mostlyLinks: { weight: 0.4, from: 0.15, minLinks: 2 },
  /** The link's target is hidden. */
  shortener: { weight: 0.3 },
  /** No shop and no newspaper is at a bare address. */
  addressLink: { weight: 0.3 },
  /** The share of all words that is one word (of 4 letters or more). */
  repeatedWord: { weight: 0.4, from: 0.25, minWords: 12 },
  /** One word so many times in a row. */
  wordInARow: { weight: 0.4, from: 4 },
  /** One letter or mark so many times in a row; lines drawn with dashes and the like do not count. */
  characterInARow: { weight: 0.25, from: 8 },
  /** The share of lines that are there already. */
  repeatedLines: { weight: 0.5, from: 0.5, minLines: 4, minLength: 8 },
  /** The share of letters that are capitals. Headings and acronyms are shorter. */
  shouting: { weight: 0.3, from: 0.6, minLetters: 30 },
  /** Exclamation marks in a row, or so many to a word. */
  exclamations: { weight: 0.2, inARow: 3, toWords: 0.2, min: 3 },
  /** Each phrase adds its own, up to the most that phrases can say. */
  phrases: { strong: 0.4, weak: 0.15, most: 0.85 },
} as const

export const SHORTENERS: readonly string[] =
  'adf.ly bit.do bit.ly buff.ly cutt.ly goo.gl is.gd ow.ly rb.gy rebrand.ly s.id shorte.st shorturl.at t.ly tiny.cc tinyurl.com v.gd'.split(
    ' ',
  )

/** What hardly anybody writes who is not selling something. */
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

/** What honest texts say as well, only less of it at once. */
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
