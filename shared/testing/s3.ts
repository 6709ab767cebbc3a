import { createHash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export type S3 = Awaited<ReturnType<typeof startS3>>

/**
 * A fake S3 with one bucket: objects, multipart uploads, and errors for missing keys and uploads. It keeps everything in
 * memory and ignores signatures.
 */
export async function startS3(bucket = 'bucket') {
  const objects = new Map<string, Buffer>()
  const uploads = new Map<string, { key: string; parts: Map<number, Buffer> }>()
  const requests: string[] = []
  let failing: { match: RegExp; status: number } | null = null

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://s3')
    const body = await readBody(request)
    const [, name, ...path] = decodeURIComponent(url.pathname).split('/')
    const key = path.join('/')
    const query = url.searchParams
    const line = `${request.method} ${key}${url.search}`
    requests.push(line)
    if (failing?.match.test(line)) return refuse(response, failing.status, 'InternalError')
    if (name !== bucket) return refuse(response, 404, 'NoSuchBucket')
    const upload = uploads.get(query.get('uploadId') ?? '')
    if (query.has('uploadId') && !upload) return refuse(response, 404, 'NoSuchUpload')

    if (request.method === 'GET' && key === '' && query.has('uploads')) return listUploads(response, query)
    if (request.method === 'POST' && query.has('uploads')) {
      const id = randomUUID()
      uploads.set(id, { key, parts: new Map() })
      return xml(response, 'InitiateMultipartUploadResult', tag('Bucket', name) + tag('Key', key) + tag('UploadId', id))
    }
    if (request.method === 'POST' && upload) {
      const parts = [...upload.parts].sort(([a], [b]) => a - b).map(([, part]) => part)
      // As in S3, only the last part may be smaller than 5 MiB.
      if (parts.slice(0, -1).some(part => part.length < 5_242_880)) return refuse(response, 400, 'EntityTooSmall')
      objects.set(key, Buffer.concat(parts))
      uploads.delete(query.get('uploadId')!)
      return xml(response, 'CompleteMultipartUploadResult', tag('Key', key) + tag('ETag', etag(objects.get(key)!)))
    }
    if (request.method === 'PUT') {
      if (upload) upload.parts.set(Number(query.get('partNumber')), body)
      else objects.set(key, body)
      response.writeHead(200, { etag: etag(body) }).end()
      return
    }
    if (request.method === 'DELETE') {
      if (upload) uploads.delete(query.get('uploadId')!)
      else objects.delete(key)
      response.writeHead(204).end()
      return
    }
    const object = objects.get(key)
    if (request.method !== 'GET' || !object) return refuse(response, 404, 'NoSuchKey')
    response.writeHead(200, { 'content-length': object.length, etag: etag(object) }).end(object)
  }

  function listUploads(response: ServerResponse, query: URLSearchParams) {
    const rows = [...uploads].filter(([, { key }]) => key.startsWith(query.get('prefix') ?? ''))
    const list = rows.map(([id, { key }]) => tag('Upload', tag('Key', key) + tag('UploadId', id)))
    return xml(response, 'ListMultipartUploadsResult', tag('IsTruncated', 'false') + list.join(''))
  }

  const server = createServer((request, response) => {
    handle(request, response).catch(() => response.destroy())
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    objects,
    uploads,
    requests,
    /** Answers `status` to every request whose line (`PUT key?query`) matches; null: to none. */
    fail(match: RegExp | null, status = 500) {
      failing = match && { match, status }
    },
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = []
  for await (const part of request) parts.push(part as Buffer)
  return Buffer.concat(parts)
}

const etag = (bytes: Buffer) => `"${createHash('md5').update(bytes).digest('hex')}"`
const tag = (name: string, content: string) => `<${name}>${content}</${name}>`

function xml(response: ServerResponse, root: string, content: string, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/xml' })
  response.end(`<?xml version="1.0" encoding="UTF-8"?>${tag(root, content)}`)
}

const refuse = (response: ServerResponse, status: number, code: string) =>
  xml(response, 'Error', tag('Code', code) + tag('Message', code), status)
