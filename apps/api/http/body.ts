import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { hasInexactNumbers, parseJson } from '#shared/json/lossless.ts'
import { createBodyBudget } from './body-budget.ts'
import { ACCEPTED_CODINGS, checkCharset, codingOf, decoded, decoderBytes, utf8 } from './body-decoding.ts'
import { invalidJson } from './json-error.ts'

/** A client that gets its response before it has sent its body may go on sending for this long, so that it reads the response. */
const LINGER = { ms: 30_000, bytes: Number.POSITIVE_INFINITY }
/** The same for a client without a key. */
const KEYLESS_LINGER = { ms: 5000, bytes: 16_777_216 }

/**
 * Reads request bodies: only for known routes and valid keys, within a memory budget, decompressed, as UTF-8, and as JSON that
 * keeps the exact value of numbers. Routes with `upload` get their body as a stream in `request.body`.
 * @param maxBytes the memory for all bodies of the process @param uploadBytes the maximum memory of one upload
 */
export const body = fp(
  async (app: FastifyInstance, { maxBytes, uploadBytes }: { maxBytes: number; uploadBytes: number }) => {
    const budget = createBodyBudget(maxBytes)

    app.addHook('onRequest', (request, reply, done) => {
      if (request.is404) app.refuseRoute(request, reply)
      else done()
    })

    app.addHook('preParsing', (request, reply, payload, done) => {
      if (!hasBody(request)) return done(null, payload)
      try {
        checkCharset(request.headers['content-type'])
        const coding = codingFor(request, reply)
        const account = budget.open(request.apiKey?.id ?? '')
        releaseAtEnd(request, reply, account.release)
        const { bodyLimit, config } = request.routeOptions
        if (config.upload) {
          account.add(uploadBytes + (coding ? decoderBytes(coding) : 0))
          return done(null, coding ? decoded(request.raw, coding, () => {}) : payload)
        }
        let rest = bodyLimit
        // Bytes above the body limit are not counted: they get body_too_large, which a retry cannot change.
        const add = (bytes: number) => {
          const counted = Math.min(bytes, rest)
          rest -= counted
          account.add(counted)
        }
        const length = request.headers['content-length']
        if (coding) {
          account.add(decoderBytes(coding))
          return done(null, decoded(request.raw, coding, add))
        }
        if (length === undefined) return done(null, decoded(request.raw, null, add))
        add(Number(length))
        done(null, payload)
      } catch (error) {
        done(error as Error)
      }
    })

    // A response before the end of the body closes the connection: the rest is discarded, and only for a limited time.
    app.addHook('onSend', (request, reply, payload, done) => {
      if (typeof payload !== 'string' || !isUnread(request)) return done(null, payload)
      reply.header('connection', 'close').header('content-length', Buffer.byteLength(payload))
      done(null, Readable.from(thenLinger(payload, request), { objectMode: false }))
    })

    const checkJson = app.getDefaultJsonParser('error', 'error')
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, bytes: Buffer, done) => {
      // Many clients send a content type without a body, such as for `cancel`.
      if (bytes.length === 0) return done(null, undefined)
      const text = utf8(bytes)
      checkJson(request, text, (error, value) => {
        if (error) return done(invalidJson(text), undefined)
        if (!hasInexactNumbers(text)) return done(null, value)
        done(null, parseJson(text, request.routeOptions.schema?.body as object | undefined))
      })
    })
  },
  { name: 'body', dependencies: ['errors', 'request-metrics'] },
)

/** Releases on the response or when the connection breaks; a response that waits behind an earlier one (pipelining) gets no `close`. */
function releaseAtEnd({ raw: { socket } }: FastifyRequest, { raw }: FastifyReply, release: () => void) {
  // The client left while its key was read.
  if (raw.closed || socket.destroyed) return release()
  const end = () => {
    socket.off('close', end)
    raw.off('close', end)
    release()
  }
  socket.once('close', end)
  raw.once('close', end)
}

const hasBody = ({ headers }: FastifyRequest) =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length']) > 0

export const isUnread = (request: FastifyRequest) => hasBody(request) && !request.raw.complete && !request.raw.destroyed

function codingFor({ headers }: FastifyRequest, reply: FastifyReply) {
  try {
    return codingOf(headers['content-encoding'])
  } catch (error) {
    // RFC 7694
    reply.header('accept-encoding', ACCEPTED_CODINGS.join(', '))
    throw error
  }
}

async function* thenLinger(payload: string, { raw, apiKey }: FastifyRequest) {
  yield Buffer.from(payload)
  await linger(raw, apiKey ? LINGER : KEYLESS_LINGER)
}

/** Discards the rest of the body until its end or a limit. */
async function linger(raw: IncomingMessage, { ms, bytes }: typeof LINGER): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const timer = setTimeout(resolve, ms)
  let rest = bytes
  raw.on('data', (chunk: Buffer) => {
    rest -= chunk.length
    if (rest < 0) resolve()
  })
  for (const event of ['end', 'close', 'error']) raw.once(event, () => resolve())
  if (raw.complete && raw.readableEnded) resolve()
  raw.unpipe()
  raw.resume()
  await promise
  clearTimeout(timer)
}
