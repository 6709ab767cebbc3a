import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { crc32 } from 'node:zlib'

/** A request as a cloud received it. */
export type CloudCall = { path: string; query: string; headers: IncomingHttpHeaders; body: Record<string, unknown> }

type Route = { path: string; model: string; stream: boolean; framed: boolean }

/**
 * Serves the paths of Azure, Bedrock and Vertex in front of a fake upstream, which answers in the formats of OpenAI and Anthropic.
 * Source: the API references of the three clouds.
 */
export async function startCloudFront(upstream: string) {
  const calls: CloudCall[] = []
  const server = createServer(async (request, response) => {
    const { pathname, search } = new URL(request.url!, 'http://front')
    const body = JSON.parse(await text(request)) as Record<string, unknown>
    calls.push({ path: decodeURIComponent(pathname), query: search, headers: request.headers, body })
    const route = routeOf(decodeURIComponent(pathname), body)
    if (!route)
      return void response.writeHead(404, { 'content-type': 'application/json' }).end('{"message":"no route"}')
    const { anthropic_version, ...rest } = body
    const answer = await fetch(`${upstream}${route.path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...rest, model: route.model, ...(route.stream && { stream: true }) }),
    })
    const type = answer.headers.get('content-type') ?? ''
    if (route.framed && answer.ok) return await sendFrames(response, answer)
    response.writeHead(answer.status, { 'content-type': type }).end(Buffer.from(await answer.arrayBuffer()))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls,
    close: () => new Promise(resolve => server.close(resolve)),
  }
}

function routeOf(path: string, body: Record<string, unknown>): Route | null {
  const azure = /^\/openai\/deployments\/([^/]+)\/chat\/completions$/.exec(path)
  if (azure) return { path: '/v1/chat/completions', model: azure[1]!, stream: body.stream === true, framed: false }
  const bedrock = /^\/model\/(.+)\/(invoke|invoke-with-response-stream)$/.exec(path)
  if (bedrock) {
    const stream = bedrock[2] !== 'invoke'
    return { path: '/v1/messages', model: bedrock[1]!, stream, framed: stream }
  }
  const vertex =
    /^\/projects\/[^/]+\/locations\/[^/]+\/publishers\/anthropic\/models\/(.+):(rawPredict|streamRawPredict)$/.exec(
      path,
    )
  if (!vertex) return null
  return { path: '/v1/messages', model: vertex[1]!, stream: vertex[2] === 'streamRawPredict', framed: false }
}

/** The events of a stream as messages of AWS's event stream. */
async function sendFrames(response: ServerResponse, answer: Response): Promise<void> {
  response.writeHead(200, { 'content-type': 'application/vnd.amazon.eventstream' })
  for (const line of (await answer.text()).split('\n')) {
    if (!line.startsWith('data: ')) continue
    const bytes = Buffer.from(line.slice('data: '.length)).toString('base64')
    response.write(
      frame(
        { ':event-type': 'chunk', ':content-type': 'application/json', ':message-type': 'event' },
        JSON.stringify({ bytes }),
      ),
    )
  }
  response.end()
}

/** One message: lengths, their checksum, headers (type 7: string), payload, checksum of everything. */
function frame(headers: Record<string, string>, payload: string): Buffer {
  const fields = Object.entries(headers).map(([name, value]) => {
    const length = Buffer.alloc(2)
    length.writeUInt16BE(value.length)
    return Buffer.concat([Buffer.from([name.length]), Buffer.from(name), Buffer.from([7]), length, Buffer.from(value)])
  })
  const head = Buffer.concat(fields)
  const body = Buffer.from(payload)
  const prelude = Buffer.concat([uint32(16 + head.length + body.length), uint32(head.length)])
  const message = Buffer.concat([prelude, uint32(crc32(prelude)), head, body])
  return Buffer.concat([message, uint32(crc32(message))])
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
