/**
 * Abbreviations in lower case, after which a full stop does not end a sentence. Unicode's rules (UAX 29) do not know
 * them.
 */
const ABBREVIATIONS: ReadonlySet<string> = new Set(
  'mr mrs ms dr prof sr jr st vs etc e.g i.e cf fig no vol inc ltd co corp dept approx est ca al gen sen rep rev'.split(
    ' ',
  ),
)
const LIST_ITEM = /^\s*(?:[-*•–]|\d{1,3}[.)])\s/
/** A line of this length without final punctuation was wrapped; a shorter one is a heading or a list item. */
const WRAPPED = 40

/** Joins wrapped lines, because Unicode's rules end a sentence at every line break. */
function unwrap(text: string): string {
  const lines = text.split(/\r\n|[\n\r\u2028\u2029]/)
  return lines
    .reduce((parts: string[], line, i) => {
      const before = lines[i - 1]
      if (before !== undefined) {
        const goesOn = before.length >= WRAPPED && /[^.!?:;…。！？\s]\s*$/u.test(before.slice(-20))
        parts.push(goesOn && line.trim() !== '' && !LIST_ITEM.test(line) ? ' ' : '\n')
      }
      parts.push(line)
      return parts
    }, [])
    .join('')
}

function endsInAbbreviation(sentence: string): boolean {
  const last = /(?:^|[\s("'])([\p{L}.]{1,10})\.$/u.exec(sentence.slice(-14))?.[1]
  // A single capital is an initial: "J. Smith".
  return last !== undefined && (/^\p{Lu}$/u.test(last) || ABBREVIATIONS.has(last.toLowerCase()))
}

/**
 * Splits a text in any language into sentences, by Unicode's rules, with single spaces and without list marks. Linear
 * time.
 */
export function splitSentences(text: string): string[] {
  const sentences: string[] = []
  let pending: string[] = []
  const flush = () => {
    const sentence = pending.join(' ')
    if (sentence !== '') sentences.push(sentence)
    pending = []
  }
  for (const { segment } of new Intl.Segmenter('en', { granularity: 'sentence' }).segment(unwrap(text))) {
    const sentence = segment.replace(LIST_ITEM, '').replace(/\s+/g, ' ').trim()
    if (sentence !== '') pending.push(sentence)
    if (segment.endsWith('\n') || !endsInAbbreviation(sentence)) flush()
  }
  flush()
  return sentences
}
