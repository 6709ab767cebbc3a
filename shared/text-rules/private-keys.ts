const MARKER = /-----(BEGIN|END) (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----/g
/** Line breaks may be written out, as in JSON and in environment files. */
const BREAK = '(?:\\s|\\\\[nrt])'
const BASE64 = /[A-Za-z0-9+/=]{24,}/
/** A key whose end was cut off, as by a limit of tokens: its lines of base64. */
const LINES = new RegExp(`(?:${BREAK}+[A-Za-z0-9+/=]{24,})+`, 'y')

/** Private keys in PEM, with their markers. Text that merely speaks of the markers is none. */
export function findPrivateKeys(text: string): { start: number; end: number }[] {
  const found: { start: number; end: number }[] = []
  let open: { start: number; end: number } | null = null
  const closeCut = () => {
    if (!open) return
    LINES.lastIndex = open.end
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
