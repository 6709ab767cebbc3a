const IGNORABLE = /\p{Default_Ignorable_Code_Point}/gu
const PUNCTUATION_AROUND = /^[\s\p{Pi}\p{Pf}"'`´*([{<]+|[\s\p{Pi}\p{Pf}"'`´*)\]}>.,;:!?。、，；：！？]+$/gu

/** Normalizations of a model's spelling of a label, from strict to lenient. */
const FOLDS: ((text: string) => string)[] = [
  text => text,
  text => text.replace(IGNORABLE, '').normalize('NFKC').replace(/\s+/g, ' ').trim().toLowerCase(),
  text => FOLDS[1]!(text).replace(PUNCTUATION_AROUND, ''),
  text => FOLDS[2]!(text).replace(/[\s_\p{Pd}]+/gu, ' '),
]

/**
 * Finds the label that a model means, in spite of case, white space, quotation marks and punctuation; null: none, or
 * several.
 */
export function matchLabel<Label extends string>(said: string, labels: readonly Label[]): Label | null {
  for (const fold of FOLDS) {
    const wanted = fold(said)
    const same = labels.filter(label => fold(label) === wanted)
    if (same.length > 0) return same.length === 1 ? same[0]! : null
  }
  return null
}
