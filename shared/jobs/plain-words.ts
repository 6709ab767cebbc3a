/**
 * The words of a text in lower case, without punctuation; '' if it has none. Equal for titles that differ only in case
 * and punctuation.
 */
export const plainWords = (text: string): string =>
  (
    text
      .normalize('NFKC')
      .toLowerCase()
      .replace(/['’]/g, '')
      .match(/[\p{L}\p{M}\p{N}]+/gu) ?? []
  ).join(' ')
