/** After these a full stop ends no sentence, which Unicode's rules (UAX 29) do not know. In lower case. */
const ABBREVIATIONS: ReadonlySet<string> = new Set(
  'mr mrs ms dr prof sr jr st vs etc e.g i.e cf fig no vol inc ltd co corp dept approx est ca al gen sen rep rev'.split(
    ' ',
  ),
)
const LIST_ITEM = /^\s*(?:[-*•–]|\d{1,3}[.)])\s/
/** A line this long that ends in no punctuation was wrapped; a shorter one is a heading or an item. */
const WRAPPED = 40

/** Joins lines that were wrapped, for Unicode ends a sentence at every line break. */
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
 * The sentences of a text in any language, by Unicode's rules, with white space made single and marks of list items left
 * out. In time linear in the text.
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
