/** Rules for media in requests, the same for every wire format. */

/** Maximum size of one image, in bytes after decoding: Anthropic's. Other media are bounded by the size of the body. */
export const MAX_IMAGE_BYTES = 5 * 1024 * 1024

/** The types of images that every provider reads. */
export const IMAGE_TYPES = ['image/png', 'image/jpeg', 'image/gif', 'image/webp'] as const

const HEAD = /^data:([\w.+-]+\/[\w.+-]+)(?:;[\w=.+-]+)*;base64,/i

/** Splits a data URL with base64 content; null: it is none. */
export function splitDataUrl(url: string): { mediaType: string; data: string } | null {
  // The type is at the beginning; the rest may have millions of characters.
  const found = HEAD.exec(url.slice(0, 500))
  return found && { mediaType: found[1]!.toLowerCase(), data: url.slice(found[0].length) }
}

/**
 * @param maxBytes after decoding
 * @returns why base64 content is refused, as the end of a sentence that names the field; null: it is not
 */
export function base64Problem(data: string, maxBytes = Number.POSITIVE_INFINITY): string | null {
  if (data === '') return 'the content is empty'
  const padding = data.endsWith('==') ? 2 : data.endsWith('=') ? 1 : 0
  const digits = data.length - padding
  const bytes = Math.floor((digits * 3) / 4)
  if (bytes > maxBytes) return `the content has ${bytes} bytes, more than the limit of ${maxBytes}`
  return digits % 4 === 1 || /[^A-Za-z0-9+/]/.test(data.slice(0, digits)) ? 'the content is not base64' : null
}

/** @returns why an image is refused; null: it is not */
export const imageProblem = ({ mediaType, data }: { mediaType: string; data: string }): string | null =>
  IMAGE_TYPES.some(one => one === mediaType) || mediaType === 'image/jpg'
    ? base64Problem(data, MAX_IMAGE_BYTES)
    : `images must be ${IMAGE_TYPES.join(', ')}, but this is '${mediaType.slice(0, 100)}'`
