/** What each sign adds to the score, which ends at 1. */
const WEIGHTS = { links: 0.25, many_links: 0.4, shortener: 0.3, repetition: 0.4, shouting: 0.2, phrase: 0.25 }

const LINK = /(?:https?:\/\/|www\.)[^\s<>"')\]]{3,500}/gi
const SHORTENER =
  /^(?:https?:\/\/)?(?:www\.)?(?:bit\.ly|tinyurl\.com|t\.co|goo\.gl|is\.gd|ow\.ly|cutt\.ly|rb\.gy|shorturl\.at)(?:[/?#:]|$)/i

/** Phrases that sell; each counts, to three. */
const PHRASES: RegExp[] = [
  /\bbuy (?:now|cheap|followers)\b/i,
  /\bclick (?:here|this link|the link)\b/i,
  /\b(?:limited|exclusive) (?:time )?offer\b/i,
  /\b(?:100% free|risk[- ]free|free money|free gift)\b/i,
  /\b(?:earn|make) (?:up to )?[$€£]?\d[\d,.]{0,12}(?:k|\$|€)?\s?(?:per|a|an|every|each)?\s?(?:day|week|month|hour)\b/i,
  /\b(?:work from home|be your own boss|get rich|passive income)\b/i,
  /\b(?:online casino|no deposit bonus|crypto giveaway|double your (?:bitcoin|money|crypto))\b/i,
  /\b(?:cheap|generic) (?:viagra|cialis|meds|pills)\b/i,
  /\b(?:whatsapp|telegram) (?:me|now|us)\b|\btext me (?:on|at) (?:whatsapp|telegram)\b/i,
  /\b(?:act now|order now|subscribe to my|check out my (?:channel|page|profile|site))\b/i,
  /\b(?:seo services|guaranteed (?:traffic|ranking)|rank #?1 on google)\b/i,
  /\byou(?:'ve| have) (?:won|been selected)\b/i,
]
const MOST_PHRASES = 3
/** Fewer words than this repeat themselves by chance. */
const LEAST_WORDS = 8
const LEAST_LETTERS = 20

export type SpamSignals = { score: number; reasons: string[] }

/** How much a text looks like spam, 0 to 1, and by what. Signs, not proof: a shop's own text has some of them. */
export function spamSignals(text: string): SpamSignals {
  const reasons: string[] = []
  let score = 0
  const sign = (name: keyof typeof WEIGHTS, reason: string, times = 1) => {
    score += WEIGHTS[name] * times
    reasons.push(reason)
  }

  const links = text.match(LINK) ?? []
  const words =
    text
      .replace(LINK, ' ')
      .toLowerCase()
      .match(/[\p{L}\p{N}']+/gu) ?? []
  if (links.length >= 3) sign('many_links', `${links.length} links`)
  else if (links.length > 0 && words.length < LEAST_WORDS) sign('links', 'little but a link')
  if (links.some(link => SHORTENER.test(link))) sign('shortener', 'a link that hides where it leads')

  const phrases = PHRASES.filter(phrase => phrase.test(text)).length
  if (phrases > 0) sign('phrase', 'phrases that sell', Math.min(phrases, MOST_PHRASES))

  if (/(\S)\1{9}/u.test(text)) sign('repetition', 'characters repeated')
  else if (words.length >= LEAST_WORDS && new Set(words).size / words.length < 0.3) sign('repetition', 'words repeated')
  else if (linesRepeat(text)) sign('repetition', 'lines repeated')

  const letters = text.match(/\p{L}/gu) ?? []
  const capitals = text.match(/\p{Lu}/gu) ?? []
  if (letters.length >= LEAST_LETTERS && capitals.length / letters.length > 0.7) sign('shouting', 'all in capitals')
  else if (/[!?]{5}/.test(text)) sign('shouting', 'many exclamation marks')

  return { score: Math.min(1, Math.round(score * 100) / 100), reasons }
}

function linesRepeat(text: string): boolean {
  const lines = text
    .split('\n')
    .map(line => line.trim().toLowerCase())
    .filter(line => line.length > 3)
  return lines.length >= 4 && new Set(lines).size <= lines.length / 2
}
