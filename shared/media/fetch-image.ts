import type { IncomingMessage } from 'node:http'
import { imageType } from '#shared/requests/image-size.ts'
import { MAX_IMAGE_BYTES } from '#shared/requests/media.ts'
import { createGuardedRequest, type GuardedOptions } from '#shared/webhooks/guarded-request.ts'
import { targetProblem } from '#shared/webhooks/target.ts'

/** Images of clients, for providers that take no URLs. */

/** `data`: base64. `problem`: the end of a sentence that names the URL. */
export type FetchedImage = { mediaType: string; data: string } | { problem: string }

export type FetchImage = (url: string, signal: AbortSignal) => Promise<FetchedImage>

const TIMEOUT_MS = 10_000
const MAX_REDIRECTS = 3
const REDIRECTS = new Set([301, 302, 303, 307, 308])

/** Fetches images under the rules for webhooks: only from public addresses and those that WEBHOOK_ALLOW names. */
export function createFetchImage({
  timeoutMs = TIMEOUT_MS,
  ...options
}: GuardedOptions & { timeoutMs?: number }): FetchImage {
  const request = createGuardedRequest(options)

  async function fetchFrom(text: string, signal: AbortSignal, redirects: number): Promise<FetchedImage> {
    const wrong = targetProblem(text, options.policy)
    if (wrong) return { problem: wrong }
    const url = new URL(text)
    const sent = await request({ url, method: 'GET', headers: { accept: 'image/*' } }, signal)
    if (sent.kind === 'forbidden') return { problem: sent.message }
    const { response } = sent
    const { statusCode: status = 0, headers } = response
    if (REDIRECTS.has(status) && headers.location !== undefined) {
      response.destroy()
      const next = URL.parse(headers.location, url.href)
      if (!next || redirects === 0) return { problem: 'redirects too often' }
      return await fetchFrom(next.href, signal, redirects - 1)
    }
    if (status !== 200) {
      response.destroy()
      return { problem: `answers with HTTP ${status}` }
    }
    return await readImage(response)
  }

  return async (url, stop) => {
    const late = AbortSignal.timeout(timeoutMs)
    try {
      return await fetchFrom(url, AbortSignal.any([stop, late]), MAX_REDIRECTS)
    } catch (error) {
      if (late.aborted) return { problem: `does not answer within ${timeoutMs / 1000} seconds` }
      return { problem: `cannot be reached (${String((error as NodeJS.ErrnoException).code ?? 'EUNKNOWN')})` }
    }
  }
}

async function readImage(response: IncomingMessage): Promise<FetchedImage> {
  const parts: Buffer[] = []
  let bytes = 0
  for await (const part of response as AsyncIterable<Buffer>) {
    bytes += part.length
    // Leaving the loop closes the connection.
    if (bytes > MAX_IMAGE_BYTES) return { problem: `has more bytes than the limit of ${MAX_IMAGE_BYTES}` }
    parts.push(part)
  }
  const body = Buffer.concat(parts)
  const mediaType = imageType(body)
  return mediaType === null
    ? { problem: 'is no PNG, JPEG, GIF or WebP image' }
    : { mediaType, data: body.toString('base64') }
}
