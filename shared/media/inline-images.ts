import { imagesOf, mapImages } from '#shared/requests/parts.ts'
import type { ChatRequest } from '#shared/requests/request.ts'
import type { FetchedImage, FetchImage } from './fetch-image.ts'

/** Bytes of base64 that the images of one request may have after they were fetched. */
const MAX_TOTAL = 32 * 1024 * 1024
const AT_ONCE = 4

export type Inlined = { request: ChatRequest } | { problem: { url: string; message: string } }

/** Replaces the URLs of a request's images by their content. */
export type InlineImages = (request: ChatRequest, signal: AbortSignal) => Promise<Inlined>

export const hasImageUrls = (request: ChatRequest): boolean =>
  request.messages.some(one => typeof one.content !== 'string') &&
  imagesOf(request).some(one => one.source.kind === 'url')

export const createInlineImages =
  (fetchImage: FetchImage): InlineImages =>
  async (request, signal) => {
    const urls = [...new Set(imagesOf(request).flatMap(({ source }) => (source.kind === 'url' ? [source.url] : [])))]
    const images = new Map<string, Exclude<FetchedImage, { problem: string }>>()
    let total = 0
    for (let at = 0; at < urls.length; at += AT_ONCE) {
      const some = urls.slice(at, at + AT_ONCE)
      const fetched = await Promise.all(some.map(async url => ({ url, image: await fetchImage(url, signal) })))
      for (const { url, image } of fetched) {
        if ('problem' in image) return { problem: { url, message: image.problem } }
        total += image.data.length
        if (total > MAX_TOTAL) return { problem: { url, message: 'exceeds what the images of one request may have' } }
        images.set(url, image)
      }
    }
    return {
      request: mapImages(request, part => {
        const image = part.source.kind === 'url' ? images.get(part.source.url) : undefined
        return image ? { ...part, source: { kind: 'base64', ...image } } : part
      }),
    }
  }
