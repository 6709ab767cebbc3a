import { isUtf8 } from 'node:buffer'
import type { IncomingMessage } from 'node:http'
import { Transform, type TransformCallback } from 'node:stream'
import { constants, createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib'
import { SluiceError } from '#shared/errors.ts'

const MIB = 1_048_576

/** The maximum window of the content coding `zstd` (RFC 9659). Without it, a frame of a few bytes could allocate 128 MB. */
const zstd = () => createZstdDecompress({ params: { [constants.ZSTD_d_windowLogMax]: 23 } })

/** Content codings. `bytes`: the maximum memory of a decoder in addition to its output. */
const CODINGS = {
  gzip: { decode: createGunzip, bytes: MIB / 4 },
  deflate: { decode: createInflate, bytes: MIB / 4 },
  br: { decode: createBrotliDecompress, bytes: 2 * MIB },
  zstd: { decode: zstd, bytes: 8 * MIB },
}
type Coding = keyof typeof CODINGS
export const ACCEPTED_CODINGS = Object.keys(CODINGS) as Coding[]

/** The maximum memory of a decoder in addition to its output. */
export const decoderBytes = (coding: Coding): number => CODINGS[coding].bytes

/** The content coding of a body; null: none. @throws SluiceError unsupported_media_type */
export function codingOf(header: string | undefined): Coding | null {
  const codings = (header ?? '')
    .split(',')
    .map(one =>
      one
        .trim()
        .toLowerCase()
        .replace(/^x-gzip$/, 'gzip'),
    )
    .filter(one => one !== '' && one !== 'identity')
  if (codings.length === 0) return null
  const [coding] = codings
  if (codings.length === 1 && Object.hasOwn(CODINGS, coding!)) return coding as Coding
  throw new SluiceError(
    'unsupported_media_type',
    `The content-encoding "${header!.slice(0, 100)}" is not accepted. Send one of ${ACCEPTED_CODINGS.join(', ')}, or none.`,
    { context: { field: '/content-encoding', in: 'headers', accepted: ACCEPTED_CODINGS } },
  )
}

const CHARSET = /;\s*charset\s*=\s*(?:"([^"]*)"|([^\s;"]*))/i
/** Names of UTF-8 and of its subset ASCII. */
const UTF8 = ['', 'utf-8', 'utf8', 'us-ascii', 'ascii']

/** @throws SluiceError unsupported_media_type, if a content type names a charset other than UTF-8 */
export function checkCharset(contentType: string | undefined): void {
  const [, quoted, token] = CHARSET.exec(contentType ?? '') ?? []
  const charset = (quoted ?? token ?? '').trim()
  if (UTF8.includes(charset.toLowerCase())) return
  throw new SluiceError(
    'unsupported_media_type',
    `The charset "${charset.slice(0, 100)}" is not accepted. Send UTF-8.`,
    { context: { field: '/content-type', in: 'headers', charset: charset.slice(0, 100), accepted: ['utf-8'] } },
  )
}

/** Decodes UTF-8 and drops a byte order mark. @param what the subject of the error message @throws SluiceError invalid_encoding */
export function utf8(bytes: Buffer, what = 'The body'): string {
  if (!isUtf8(bytes)) throw new SluiceError('invalid_encoding', `${what} is not valid UTF-8.`)
  const hasMark = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf
  return bytes.toString('utf8', hasMark ? 3 : 0)
}

/** Calls `account` with the size of each chunk of output before passing it on. `account` may throw. */
class Meter extends Transform {
  /** Bytes received, before decoding. Fastify compares them with Content-Length. */
  receivedEncodedLength = 0
  readonly #account: (bytes: number) => void
  readonly #rest: () => number
  constructor(account: (bytes: number) => void, rest: (received: number) => number) {
    super()
    this.#account = account
    this.#rest = () => rest(this.receivedEncodedLength)
  }
  override _transform(chunk: Buffer, _: BufferEncoding, done: TransformCallback) {
    try {
      this.#account(chunk.length)
      done(null, chunk)
    } catch (error) {
      done(error as Error)
    }
  }
  override _flush(done: TransformCallback) {
    // Decoders ignore bytes after the end of the compressed data.
    if (this.#rest() > 0) done(undecodable('bytes follow the end of the compressed data'))
    else done()
  }
}

const undecodable = (reason: string) =>
  new SluiceError('invalid_encoding', `The body cannot be decompressed: ${reason}.`)

/**
 * The bytes of a body, decompressed and counted. Fails with SluiceErrors and leaves `raw` open, so that they can be answered.
 * @param account called with the size of each chunk; an error that it throws ends the body
 */
export function decoded(raw: IncomingMessage, coding: Coding | null, account: (bytes: number) => void): Meter {
  const decoder = coding && CODINGS[coding].decode()
  const meter = new Meter(account, received => (decoder ? received - decoder.bytesWritten : 0))
  decoder?.on('error', (error: NodeJS.ErrnoException) => {
    meter.destroy(undecodable(error.code === 'Z_BUF_ERROR' ? 'it is incomplete' : `it is not ${coding}`))
  })
  // It may fail before its reader listens (and then gets the error). Without a listener the error would end the process.
  meter.on('error', () => {})
  const first = decoder ?? meter
  raw.on('data', (chunk: Buffer) => {
    meter.receivedEncodedLength += chunk.length
  })
  raw.pipe(first)
  decoder?.pipe(meter)
  raw.once('close', () => {
    if (!raw.readableEnded) meter.destroy(new SluiceError('invalid_upload', 'The connection broke.'))
  })
  meter.once('close', () => {
    raw.unpipe(first)
    decoder?.destroy()
  })
  return meter
}
