import type { IncomingHttpHeaders } from 'node:http'
import type { Readable } from 'node:stream'
import { Busboy } from '@fastify/busboy'

/** A part of a form. Read its bytes completely before you request the next part. */
export type Part = {
  name: string
  /** undefined: a field, not a file. */
  filename: string | undefined
  /** Content type, without its parameters. */
  type: string
  /** Content-Transfer-Encoding. */
  encoding: string
  bytes: Readable
}

/** The parts of a multipart/form-data body, in order. @throws Error, if the body is invalid, truncated or has too many parts */
export async function* readParts(
  source: Readable,
  headers: IncomingHttpHeaders,
  maxParts: number,
): AsyncGenerator<Part> {
  // A destroyed source emits no more events.
  if (source.destroyed && !source.readableEnded) throw source.errored ?? new Error('the connection broke')
  const found: (Part | Error | null)[] = []
  let current: Readable | null = null
  let isEmpty = true
  let wake = () => {}
  const add = (one: Part | Error | null) => {
    found.push(one)
    wake()
  }
  const busboy = new Busboy({
    headers: { ...headers, 'content-type': headers['content-type'] ?? '' },
    // Get fields as bytes: Busboy's own decoding replaces invalid UTF-8 with U+FFFD.
    isPartAFile: () => true,
    limits: { parts: maxParts, files: maxParts },
  })
  busboy.on('file', (name, bytes, filename, encoding, type) => {
    // A reader gets the error as well. Without a reader it would end the process.
    bytes.on('error', () => {})
    add({ name, filename: filename as string | undefined, type, encoding, bytes })
  })
  busboy.on('partsLimit', () => add(new Error(`it has more than ${maxParts} parts`)))
  busboy.on('filesLimit', () => add(new Error(`it has more than ${maxParts} parts`)))
  // Treat an empty body as an empty form.
  busboy.on('error', error => (isEmpty ? add(null) : fail(error as Error)))
  busboy.on('finish', () => add(null))
  const fail = (error: Error) => {
    // Its reader is waiting for more bytes.
    current?.destroy(error)
    add(error)
  }
  const onClose = () => {
    if (!source.readableEnded) fail(new Error('the connection broke'))
  }
  source.once('data', () => {
    isEmpty = false
  })
  source.on('error', fail).on('close', onClose).pipe(busboy)
  try {
    for (;;) {
      while (found.length === 0) {
        const { promise, resolve } = Promise.withResolvers<void>()
        wake = resolve
        await promise
      }
      const next = found.shift()!
      if (next === null) return
      if (next instanceof Error) throw next
      current = next.bytes
      yield next
    }
  } finally {
    source.unpipe(busboy).off('close', onClose)
    for (const one of found) if (one && 'bytes' in one) one.bytes.resume()
  }
}
