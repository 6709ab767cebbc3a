import { randomUUID } from 'node:crypto'

const CRLF = '\r\n'
/** Escapes as browsers do (WHATWG HTML, 4.10.21.8). */
const escaped = (name: string) => name.replace(/[\r\n"]/g, char => encodeURIComponent(char))

/** A form whose last part is a file, which is read while it is sent. */
export function multipart(
  fields: Record<string, string>,
  file: { filename: string; bytes: AsyncIterable<Uint8Array> },
): { body: ReadableStream<Uint8Array>; type: string } {
  const boundary = `sluice-${randomUUID()}`
  const part = (disposition: string) => `--${boundary}${CRLF}content-disposition: form-data; ${disposition}${CRLF}`
  const head = Object.entries(fields).map(([name, value]) => `${part(`name="${escaped(name)}"`)}${CRLF}${value}${CRLF}`)
  async function* bytes() {
    const encoder = new TextEncoder()
    const disposition = `name="file"; filename="${escaped(file.filename)}"`
    yield encoder.encode(`${head.join('')}${part(disposition)}content-type: application/octet-stream${CRLF}${CRLF}`)
    yield* file.bytes
    yield encoder.encode(`${CRLF}--${boundary}--${CRLF}`)
  }
  return { body: streamOf(bytes()), type: `multipart/form-data; boundary=${boundary}` }
}

/** Without read-ahead. */
function streamOf(bytes: AsyncGenerator<Uint8Array>): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { value, done } = await bytes.next()
        if (done) controller.close()
        else controller.enqueue(value)
      },
      async cancel() {
        await bytes.return(undefined)
      },
    },
    { highWaterMark: 0 },
  )
}
