const MARKER = /-----(BEGIN|END) (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----/g
/** A line break, possibly escaped as in JSON and environment files. */
const BREAK = '(?:\\s|\\\\[nrt])'
const BASE64 = /[A-Za-z0-9+/=]{24,}/
/**
 * `Proc-Type: 4,ENCRYPTED`, `Version: GnuPG v2`, up to the end of the line. It excludes markers, because a header with
 * markers would be scanned again for each earlier marker.
 */
const HEADER = new RegExp(
  `${BREAK}+[A-Za-z][A-Za-z0-9-]{0,40}:(?:[^\\r\\n\\\\-]|-(?!----)){0,200}(?=[\\r\\n\\\\])`,
  'y',
)
/** The base64 lines of a key whose end was cut off, for example by a token limit. */
const LINES = new RegExp(`(?:${BREAK}+[A-Za-z0-9+/=]{24,})+`, 'y')

/** The end of the headers that begin at `start`. A loop, because one pattern for all headers would backtrack. */
function afterHeaders(text: string, start: number): number {
  let end = start
  for (HEADER.lastIndex = start; HEADER.test(text); ) end = HEADER.lastIndex
  return end
}

/** Finds private keys in PEM, including their markers. Markers without a key do not count. */
export function findPrivateKeys(text: string): { start: number; end: number }[] {
  const found: { start: number; end: number }[] = []
  let open: { start: number; end: number } | null = null
  const closeCut = () => {
    if (!open) return
    LINES.lastIndex = afterHeaders(text, open.end)
    if (LINES.test(text)) found.push({ start: open.start, end: LINES.lastIndex })
  }
  // Visits each marker once, in any order: a pattern from BEGIN to END is quadratic in the number of BEGINs.
  for (const marker of text.matchAll(MARKER)) {
    const end = marker.index + marker[0].length
    if (marker[1] === 'BEGIN') {
      closeCut()
      open = { start: marker.index, end }
    } else if (open) {
      if (BASE64.test(text.slice(open.end, marker.index))) found.push({ start: open.start, end })
      open = null
    }
  }
  closeCut()
  return found
}
