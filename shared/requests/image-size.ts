export type ImageSize = { width: number; height: number }

/** Longer headers, such as embedded thumbnails, are not read. */
const MAX_HEADER_BYTES = 262_144

/** The size of an image in pixels, from its first bytes; null: it is no PNG, JPEG, GIF or WebP. */
export function imageSize(base64: string): ImageSize | null {
  const head = Buffer.from(base64.slice(0, Math.ceil(MAX_HEADER_BYTES / 3) * 4), 'base64')
  const read = READERS.find(one => one.matches(head))?.read(head)
  return read && read.width > 0 && read.height > 0 ? read : null
}

type Reader = { type: string; matches(head: Buffer): boolean; read(head: Buffer): ImageSize | null }

const startsWith = (head: Buffer, text: string, at = 0): boolean =>
  head.length >= at + text.length && head.toString('latin1', at, at + text.length) === text

const READERS: readonly Reader[] = [
  {
    type: 'image/png',
    matches: head => startsWith(head, '\x89PNG\r\n\x1a\n'),
    read: head => (head.length < 24 ? null : { width: head.readUInt32BE(16), height: head.readUInt32BE(20) }),
  },
  {
    type: 'image/gif',
    matches: head => startsWith(head, 'GIF87a') || startsWith(head, 'GIF89a'),
    read: head => (head.length < 10 ? null : { width: head.readUInt16LE(6), height: head.readUInt16LE(8) }),
  },
  { type: 'image/jpeg', matches: head => startsWith(head, '\xff\xd8\xff'), read: readJpeg },
  { type: 'image/webp', matches: head => startsWith(head, 'RIFF') && startsWith(head, 'WEBP', 8), read: readWebp },
]

/** The type of an image by its first bytes; null: another file. */
export const imageType = (head: Buffer): string | null => READERS.find(one => one.matches(head))?.type ?? null

/** The frame header is the first segment SOF0 to SOF15, except for three tables. */
function readJpeg(head: Buffer): ImageSize | null {
  for (let at = 2; at + 9 < head.length && head[at] === 0xff; ) {
    const marker = head[at + 1]!
    if (marker === 0xff) {
      at++
      continue
    }
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker))
      return { width: head.readUInt16BE(at + 7), height: head.readUInt16BE(at + 5) }
    // Markers without a length.
    at += marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8) ? 2 : 2 + head.readUInt16BE(at + 2)
  }
  return null
}

function readWebp(head: Buffer): ImageSize | null {
  if (head.length < 30) return null
  if (startsWith(head, 'VP8X', 12)) return { width: 1 + head.readUIntLE(24, 3), height: 1 + head.readUIntLE(27, 3) }
  if (startsWith(head, 'VP8L', 12)) {
    const bits = head.readUInt32LE(21)
    return { width: 1 + (bits & 0x3fff), height: 1 + ((bits >> 14) & 0x3fff) }
  }
  if (startsWith(head, 'VP8 ', 12))
    return { width: head.readUInt16LE(26) & 0x3fff, height: head.readUInt16LE(28) & 0x3fff }
  return null
}
