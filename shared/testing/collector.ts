import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { gunzipSync } from 'node:zlib'

export type CollectedSpan = {
  traceId: string
  spanId: string
  /** null: a root. */
  parentSpanId: string | null
  name: string
  kind: number
  attributes: Record<string, unknown>
  failed: boolean
  startMs: number
  endMs: number
  /** `service.name` */
  service: string
}

export type Collector = Awaited<ReturnType<typeof startCollector>>

/** An OTLP receiver (HTTP, protobuf). It accepts every request unless a test sets another answer with `answers`. */
export async function startCollector() {
  const spans: CollectedSpan[] = []
  const requests: { path: string; headers: IncomingHttpHeaders }[] = []
  let wake = Promise.withResolvers<void>()
  let answer: (response: ServerResponse) => void = response =>
    response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end()
  const server = createServer(async (request, response) => {
    const body = await buffer(request).catch(() => null)
    // The exporter gave the request up, or the test ended.
    if (!body) return
    requests.push({ path: request.url!, headers: request.headers })
    spans.push(...decode(request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body))
    answer(response)
    wake.resolve()
    wake = Promise.withResolvers()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    spans,
    requests,
    answers: (how: typeof answer) => {
      answer = how
    },
    /** Resolves with the spans that fit, once there are `count`. */
    async until(count: number, fits: (span: CollectedSpan) => boolean): Promise<CollectedSpan[]> {
      for (;;) {
        const found = spans.filter(fits)
        if (found.length >= count) return found
        await wake.promise
      }
    },
    close: () => {
      server.closeAllConnections()
      return new Promise(resolve => server.close(resolve))
    },
  }
}

type Field = { number: number; value: bigint | Buffer }

/** Source: https://protobuf.dev/programming-guides/encoding/ */
function* fieldsOf(bytes: Buffer): Generator<Field> {
  let at = 0
  const varint = () => {
    let value = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++]!
      value |= BigInt(byte & 127) << shift
      if (byte < 128) return value
    }
  }
  while (at < bytes.length) {
    const tag = Number(varint())
    const type = tag & 7
    if (type === 0) yield { number: tag >> 3, value: varint() }
    else {
      const length = type === 1 ? 8 : type === 5 ? 4 : Number(varint())
      yield { number: tag >> 3, value: bytes.subarray(at, at + length) }
      at += length
    }
  }
}

const all = (bytes: Buffer, number: number): Buffer[] =>
  [...fieldsOf(bytes)].flatMap(field => (field.number === number ? [field.value as Buffer] : []))
const one = (bytes: Buffer, number: number): Buffer => all(bytes, number)[0] ?? Buffer.alloc(0)
const numberOf = (bytes: Buffer, number: number): number =>
  Number([...fieldsOf(bytes)].find(field => field.number === number)?.value ?? 0)

/** Source: https://github.com/open-telemetry/opentelemetry-proto, trace/v1/trace.proto */
function decode(request: Buffer): CollectedSpan[] {
  return all(request, 1).flatMap(group => {
    const service = String(attributesOf(all(one(group, 1), 1))['service.name'])
    return all(group, 2).flatMap(scope => all(scope, 2).map(span => decodeSpan(span, service)))
  })
}

const decodeSpan = (span: Buffer, service: string): CollectedSpan => ({
  traceId: one(span, 1).toString('hex'),
  spanId: one(span, 2).toString('hex'),
  parentSpanId: one(span, 4).toString('hex') || null,
  name: one(span, 5).toString(),
  kind: numberOf(span, 6),
  attributes: attributesOf(all(span, 9)),
  failed: numberOf(one(span, 15), 3) === 2,
  startMs: Number(one(span, 7).readBigUInt64LE() / 1_000_000n),
  endMs: Number(one(span, 8).readBigUInt64LE() / 1_000_000n),
  service,
})

const attributesOf = (pairs: Buffer[]): Record<string, unknown> =>
  Object.fromEntries(pairs.map(pair => [one(pair, 1).toString(), anyValue(one(pair, 2))]))

function anyValue(value: Buffer): unknown {
  for (const field of fieldsOf(value)) {
    if (field.number === 1) return field.value.toString()
    if (field.number === 2) return field.value === 1n
    if (field.number === 3) return Number(field.value)
    if (field.number === 4) return (field.value as Buffer).readDoubleLE()
    if (field.number === 5) return all(field.value as Buffer, 1).map(anyValue)
  }
  return undefined
}
