const MARKER = /-----(BEGIN|END) (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----/g
/** Line breaks may be written out, as in JSON and in environment files. */
const BREAK = '(?:\\s|\\\\[nrt])'
const BASE64 = /[A-Za-z0-9+/=]{24,}/
/**
 * `Proc-Type: 4,ENCRYPTED`, `Version: GnuPG v2`, up to the end of the line. It holds no marker: a header that did would
 * be read again for each marker before it.
 */
const HEADER = new RegExp(
  `${BREAK}+[A-Za-z][A-Za-z0-9-]{0,40}:(?:[^\\r\\n\\\\-]|-(?!----)){0,200}(?=[\\r\\n\\\\])`,
  'y',
)
/** A key whose end was cut off, as by a limit of tokens: its lines of base64. */
const LINES = new RegExp(`(?:${BREAK}+[A-Za-z0-9+/=]{24,})+`, 'y')

/** Where the headers that begin at `start` end. A loop does not try what it has read in other ways. */
function afterHeaders(text: string, start: number): number {
  let end = start
  for (HEADER.lastIndex = start; HEADER.test(text); ) end = HEADER.lastIndex
  return end
}

/** Private keys in PEM, with their markers. Text that merely speaks of the markers is none. */
export function findPrivateKeys(text: string): { start: number; end: number }[] {
  const found: { start: number; end: number }[] = []
  let open: { start: number; end: number } | null = null
  const closeCut = () => {
    if (!open) return
    LINES.lastIndex = afterHeaders(text, open.end)
    if (LINES.test(text)) found.push({ start: open.start, end: LINES.lastIndex })
  }
  // Each marker is looked at once, whatever their order: a pattern from BEGIN to END is quadratic in many BEGINs.
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
