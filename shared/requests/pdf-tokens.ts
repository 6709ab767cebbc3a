import { inflateSync } from 'node:zlib'

/** Providers read a page as its text and as an image. Anthropic's images have at most 4,784 tokens. */
const PER_PAGE = 5000
/** Names of fonts, titles and other text outside the pages. */
const PER_FILE = 2000
/** In CJK text, a character of two bytes may be two tokens or three bytes of UTF-8. */
const GROWTH = 1.5
/** Bounds the time, a few milliseconds per megabyte. */
const MAX_INFLATED = 8 * 1024 * 1024

/** Streams without text: images, fonts and tables of objects. */
const NO_TEXT = /\/Subtype\s*\/(Image|Type1C|CIDFontType0C|OpenType)\b|\/Length[123]\b|\/Type\s*\/XRef\b/
const FILTER = /\/Filter\s*(\[[^\]]*\]|\/\w+)/
const PAGE = /\/Type\s*\/Page(?![A-Za-z])/g

/**
 * An upper bound of the tokens of a PDF: of its pages, and of everything that its content streams say. Source: PDF 1.7, 7.3.8 and 7.5.7.
 * @returns null: it is encrypted, damaged, very long, or compressed in a way that is not read here
 */
export function pdfTokenBound(base64: string): number | null {
  const file = Buffer.from(base64, 'base64').toString('latin1')
  if (!file.slice(0, 1024).includes('%PDF-') || /\/Encrypt\b/.test(file)) return null
  const found = { pages: 0, bytes: 0 }
  let left = MAX_INFLATED
  let at = 0
  for (const match of file.matchAll(/\bstream\r?\n/g)) {
    if (match.index < at) continue
    const outside = file.slice(at, match.index)
    countPages(outside, found)
    const start = match.index + match[0].length
    at = file.indexOf('endstream', start)
    if (at === -1) return null
    const dictionary = outside.slice(Math.max(0, outside.lastIndexOf(' obj')))
    if (NO_TEXT.test(dictionary)) continue
    const content = inflated(dictionary, file.slice(start, at), left)
    if (content === null) return null
    left -= content.length
    found.bytes += content.length
    if (/\/Type\s*\/ObjStm\b/.test(dictionary)) countPages(content, found)
  }
  countPages(file.slice(at), found)
  return found.pages === 0 ? null : PER_FILE + found.pages * PER_PAGE + Math.ceil(GROWTH * found.bytes)
}

function inflated(dictionary: string, stream: string, maxOutputLength: number): string | null {
  const filter = FILTER.exec(dictionary)?.[1]?.replace(/[[\]\s]/g, '')
  if (filter === undefined) return stream.length > maxOutputLength ? null : stream
  // A predictor would hide the pages of an object stream.
  if (filter !== '/FlateDecode' || /\/Predictor\b/.test(dictionary) || maxOutputLength <= 0) return null
  try {
    return inflateSync(Buffer.from(stream, 'latin1'), { maxOutputLength }).toString('latin1')
  } catch {
    return null
  }
}

/** The objects of pages, or their number in the tree of pages if that is higher. */
function countPages(text: string, found: { pages: number }): void {
  const counts = Array.from(text.matchAll(/\/Count\s+(\d{1,6})\b/g), ([, count]) => Number(count))
  found.pages = Math.max(found.pages + (text.match(PAGE)?.length ?? 0), ...counts)
}
