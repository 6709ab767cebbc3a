/**
 * The built-in text search configurations of Postgres since version 14. They stem words and skip stop words. `simple`
 * does neither, and suits any language that separates words.
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

/** Pattern for the name of a collection. */
export const COLLECTION_NAME = '^[a-z0-9][a-z0-9_-]{0,63}$'
/**
 * Pattern for the id of a document: no `#`, which separates the passage, and no `/`, which separates parts of a URL.
 */
export const DOCUMENT_ID = '^[A-Za-z0-9][A-Za-z0-9._:-]{0,79}$'

/** Maximum characters of a document. */
export const MAX_TEXT = 200_000
/** Maximum passages of a collection. */
export const MAX_PASSAGES = 50_000

export const DEFAULT_TOP_K = 5
export const MAX_TOP_K = 20

/** The id that citations name: passage `n`, from 1, of a document. */
export const passageId = (documentId: string, n: number): string => `${documentId}#${n}`
