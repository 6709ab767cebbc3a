import multipart from '@fastify/multipart'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { SluiceError } from '#shared/errors.ts'
import type { FileRow, FileStore, FileWriter } from '#shared/files/store.ts'
import { clean, isTooDeep, MAX_DEPTH } from '#shared/text.ts'

/** Of the one part that holds the file. */
const FILE = 'file'
const MAX_FIELDS = 30
const MAX_FIELD_BYTES = 262_144
const MAX_FILENAME = 255
/** How far a form is larger than its file, at most, before it is refused unread. */
const FORM_BYTES = 1_048_576
/** How long a client that was refused may go on sending, so that it gets to read why. */
const LINGER_MS = 30_000

export type FormFields = Readonly<Record<string, string>>

export type ReceiveOptions = {
  /** Of the file. */
  maxBytes: number
  /** Throws at a field that makes the rest not worth reading. It may come before or after the file. */
  checkField?(name: string, value: string): void
  /** What the file is to be, when all has come; throws where it is to be nothing. */
  finish(fields: FormFields): { purpose: string; expiresSeconds?: number | null }
}

/**
 * Lets the routes of this plugin take forms. Not for the whole server: what the library does for every request is more
 * than accepting a task takes.
 */
export const acceptForms = async (app: FastifyInstance): Promise<void> => void (await app.register(multipart))

/**
 * Streams the file of a form into the store. It is there when this returns; else nothing is left of it.
 * @throws SluiceError invalid_upload, invalid_request, body_too_large, field_too_large, unsupported_media_type, what
 * `checkField` and `finish` throw; what the store throws
 */
export async function receiveFile(
  request: FastifyRequest,
  store: FileStore,
  options: ReceiveOptions,
): Promise<{ file: FileRow; fields: FormFields }> {
  const fields: Record<string, string> = Object.create(null)
  let writer: FileWriter | null = null
  try {
    if (!request.isMultipart()) throw new SluiceError('unsupported_media_type', 'Send multipart/form-data.')
    if (Number(request.headers['content-length']) > options.maxBytes + FORM_BYTES) throw tooLarge(options.maxBytes)
    const limits = { fields: MAX_FIELDS, fieldSize: MAX_FIELD_BYTES, parts: MAX_FIELDS + 2, fileSize: Infinity }
    for await (const part of parsed(request.parts({ limits }))) {
      if (part.type === 'field') {
        const name = addField(fields, part as Field)
        options.checkField?.(name, fields[name]!)
      } else if (part.fieldname !== FILE) {
        throw invalid(part.fieldname, 'is not to be a file')
      } else if (writer) {
        throw invalid(FILE, 'was sent twice')
      } else {
        writer = await store.create({
          apiKeyId: request.apiKey.id,
          purpose: '',
          filename:
            clean(part.filename ?? '')
              .slice(0, MAX_FILENAME)
              .toWellFormed() || FILE,
        })
        await pour(part.file, writer, options.maxBytes)
      }
    }
    const end = options.finish(fields)
    if (!writer) throw invalid(FILE, 'is missing: a part of the form with a filename')
    return { file: await writer.finish(end), fields }
  } catch (error) {
    discardRest(request)
    await writer?.abort()
    throw error
  }
}

/** The body itself, to where `receiveFile` puts the file of a form, and as bounded. */
export async function receiveBody(
  request: FastifyRequest,
  store: FileStore,
  { maxBytes, ...file }: { maxBytes: number; purpose: string; filename: string },
): Promise<FileRow> {
  let writer: FileWriter | null = null
  try {
    if (Number(request.headers['content-length']) > maxBytes) throw tooLarge(maxBytes)
    writer = await store.create({ ...file, apiKeyId: request.apiKey.id })
    // An iterator that ends early would cut the request off from its connection, of which nothing would be read any more.
    await pour(request.raw.iterator({ destroyOnReturn: false }), writer, maxBytes)
    return await writer.finish()
  } catch (error) {
    discardRest(request)
    await writer?.abort()
    throw error
  }
}

async function pour(source: AsyncIterable<Uint8Array>, writer: FileWriter, maxBytes: number): Promise<void> {
  let bytes = 0
  for await (const some of parsed(source)) {
    bytes += some.length
    if (bytes > maxBytes) throw tooLarge(maxBytes)
    await writer.write(some)
  }
}

type Field = { fieldname: string; value: unknown; fieldnameTruncated: boolean; valueTruncated: boolean }

/** @returns its name */
function addField(
  fields: Record<string, string>,
  { fieldname, value, fieldnameTruncated, valueTruncated }: Field,
): string {
  const name = clean(fieldname)
  if (fieldnameTruncated || valueTruncated)
    throw new SluiceError('field_too_large', `${name.slice(0, 100)} is too large`, {
      context: { field: `/${name.slice(0, 100)}`, limit_bytes: MAX_FIELD_BYTES },
    })
  if (name === FILE) throw invalid(FILE, 'must be sent as a file, with a filename')
  if (name in fields) throw invalid(name, 'was sent twice')
  if (isTooDeep(value)) throw invalid(name.slice(0, 100), `is nested deeper than ${MAX_DEPTH} levels`)
  fields[name] = typeof value === 'string' ? value : JSON.stringify(value)
  return name
}

/** What goes wrong in here is the form's fault, as opposed to the store's. */
async function* parsed<T>(source: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* source
  } catch (error) {
    throw new SluiceError('invalid_upload', `The upload cannot be read: ${(error as Error).message}`)
  }
}

/**
 * A client that is cut off while it writes may never read the answer, and would try again. So what it still sends is
 * read and forgotten, for a while.
 */
function discardRest({ raw }: FastifyRequest): void {
  if (raw.complete && raw.readableEnded) return
  raw.unpipe()
  raw.resume()
  const timer = setTimeout(() => raw.destroy(), LINGER_MS)
  raw.once('close', () => clearTimeout(timer))
}

export const invalid = (name: string, what: string) =>
  new SluiceError('invalid_request', `${name} ${what}`, { context: { field: `/${name}` } })

const tooLarge = (maxBytes: number) =>
  new SluiceError('body_too_large', `The file is larger than ${Math.floor(maxBytes / 1_048_576)} MB.`, {
    context: { field: `/${FILE}`, limit_bytes: maxBytes },
  })
