/**
 * Finds quotations in a text. Models that quote change dashes, quotation marks, spaces, case, ligatures and invisible
 * characters; these differences are accepted. Letters, digits and their order must be the same.
 */

const IGNORABLE = /\p{Default_Ignorable_Code_Point}/gu
const SPACE = /^[\s\p{Z}]/u
/** In Unicode, minus and hyphen bullet are not dashes. */
const DASH = /^[\p{Pd}\u2212\u2043\u02D7]$/u
const QUOTE = /^["'`´′″‴‘’‚‛“”„‟«»‹›〝〞ʼʹ]$/u
const DOUBLE_QUOTE = /^["″“”„‟«»〝〞]$/u
const DIGIT = /[0-9]/
/**
 * A superscript or subscript digit. After a letter it equals the digit (m², CO₂); after a digit it is not part of the
 * number.
 */
const RAISED = /^[\u00B2\u00B3\u00B9\u2070\u2074-\u2079\u2080-\u2089]$/
const FRACTION = /^[\u00BC-\u00BE\u2150-\u215E\u2189]$/
/** A character with its combining marks, which is normalized as a unit. */
const CLUSTER = /\P{M}\p{M}*|\p{M}+/gsu
/** A word that is hyphenated at the end of a line. */
const DIVIDED = /(?<=\p{L})[-\u2010]\r?\n[ \t]*(?=\p{Ll})/gu

export function foldQuote(original: string): string {
  const folded: string[] = []
  let last = ''
  let spaced = false
  const take = (text: string) => {
    if (text === '') return
    if (spaced && last !== '' && last !== '-') folded.push(' ')
    spaced = false
    folded.push(text)
    last = text.at(-1)!
  }
  for (const [cluster] of original.matchAll(CLUSTER)) {
    if (cluster.length === 1 && /[a-z0-9]/.test(cluster)) take(cluster)
    else if (SPACE.test(cluster)) spaced = true
    else if (DASH.test(cluster)) {
      // The length of a dash and the spaces around it do not matter.
      spaced = false
      if (last !== '-') take('-')
    } else if (QUOTE.test(cluster)) {
      // After a digit it may be a unit, such as feet or inches.
      const mark = DOUBLE_QUOTE.test(cluster) && DIGIT.test(last) && !spaced ? '"' : "'"
      if (spaced || last !== mark) take(mark)
    } else take(plain(cluster, DIGIT.test(last) && !spaced))
  }
  return folded.join('')
}

function plain(cluster: string, behindDigit: boolean): string {
  if (RAISED.test(cluster) && behindDigit) return `^${cluster.normalize('NFKD')}`
  const text = cluster
    .replace(IGNORABLE, '')
    .normalize('NFKD')
    .toLowerCase()
    .replaceAll('ς', 'σ')
    .replaceAll('\u2044', '/')
  return FRACTION.test(cluster) && behindDigit ? ` ${text}` : text
}

/** Marks that models put around a quotation. Before a digit, `.` and `-` are part of the number. */
const AROUND = /^(?:['"\s]|[.-](?!\d))+|['".,;:\s-]+$/g

/** @returns a function that tells whether the text contains a quotation; it folds the text only once */
export function createQuoteFinder(original: string): (quote: string) => boolean {
  let texts: Set<string> | undefined
  return quote => {
    texts ??= new Set([foldQuote(original), foldQuote(original.replace(DIVIDED, ''))])
    const wanted = foldQuote(quote)
    const inner = wanted.replace(AROUND, '')
    return [...texts].some(text => text.includes(wanted) || (inner !== '' && text.includes(inner)))
  }
}
