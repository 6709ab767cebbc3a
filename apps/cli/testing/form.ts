import type { IncomingMessage } from 'node:http'

/** A multipart form, read by the platform's own parser. */
export async function parseForm(request: IncomingMessage) {
  const pieces: Buffer[] = []
  for await (const piece of request) pieces.push(piece as Buffer)
  const headers = { 'content-type': request.headers['content-type'] ?? '' }
  const form = await new Response(Buffer.concat(pieces), { headers }).formData()
  const fields = new Map<string, string>()
  const files = new Map<string, Buffer>()
  let filename = ''
  for (const [name, value] of form) {
    if (typeof value === 'string') fields.set(name, value)
    else {
      filename = value.name
      files.set(name, Buffer.from(await value.arrayBuffer()))
    }
  }
  return { fields, files, filename }
}
