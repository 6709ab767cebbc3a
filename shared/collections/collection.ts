/**
 * What Postgres has a text search configuration of its own for, since version 14: words are brought to their stem, and words
 * that say nothing are passed over. `simple` does neither, and suits any language that sets its words apart.
 */
export const LANGUAGES = [
  'simple',
  'arabic',
  'armenian',
  'basque',
  'catalan',
  'danish',
  'dutch',
  'english',
  'finnish',
  'french',
  'german',
  'greek',
  'hindi',
  'hungarian',
  'indonesian',
  'irish',
  'italian',
  'lithuanian',
  'nepali',
  'norwegian',
  'portuguese',
  'romanian',
  'russian',
  'serbian',
  'spanish',
  'swedish',
  'tamil',
  'turkish',
  'yiddish',
] as const

/** Of a collection. */
export const NAME = '^[a-z0-9][a-z0-9_-]{0,63}$'
/** Of a document: no `#`, which sets the passage apart, and no `/`, which sets apart what is in a URL. */
export const DOCUMENT_ID = '^[A-Za-z0-9][A-Za-z0-9._:-]{0,79}$'

/** Characters of one document. */
export const MOST_TEXT = 200_000
/** Passages of one collection. */
export const MOST_PASSAGES = 50_000

export const DEFAULT_TOP_K = 5
export const MOST_TOP_K = 20

/** What a citation names: passage `n`, from 1, of a document. */
export const passageId = (documentId: string, n: number): string => `${documentId}#${n}`
