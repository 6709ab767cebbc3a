import { once } from 'node:events'
import { request as openRequest } from 'node:http'
import type { Stack } from './stack.ts'

/** A part of a multipart form whose boundary is `x`. */
export const formPart = (name: string, value: string, more = ''): string =>
  `--x\r\ncontent-disposition: form-data; name="${name}"${more}\r\n\r\n${value}`

/** Uploads a file of `bytes` zeros, generated while it is sent. `declared`: with a Content-Length. */
export async function sendZeros(
  stack: Stack,
  key: string,
  bytes: number,
  { declared = true }: { declared?: boolean } = {},
) {
  const head = formPart('file', '', '; filename="zeros"')
  const tail = `\r\n${formPart('purpose', 'batch')}\r\n--x--\r\n`
  const piece = Buffer.alloc(65_536)
  async function* body() {
    yield Buffer.from(head)
    for (let sent = 0; sent < bytes; sent += piece.length) yield piece.subarray(0, bytes - sent)
    yield Buffer.from(tail)
  }
  const request = openRequest({
    ...{ host: '127.0.0.1', port: stack.api.port, method: 'POST', path: '/v1/files' },
    headers: {
      authorization: `Bearer ${key}`,
      'content-type': 'multipart/form-data; boundary=x',
      ...(declared && { 'content-length': head.length + bytes + tail.length }),
    },
  })
  let over = false
  const answered = once(request, 'response').finally(() => {
    over = true
  })
  const writing = (async () => {
    for await (const some of body()) {
      if (!request.write(some)) await Promise.race([once(request, 'drain'), answered])
      if (over) break
    }
    if (!over) request.end()
  })()
  const [response] = await answered
  let text = ''
  for await (const some of response.setEncoding('utf8')) text += some
  await writing
  request.destroy()
  return { status: response.statusCode as number, body: JSON.parse(text) }
}
