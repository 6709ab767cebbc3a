import type { Readable } from 'node:stream'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { SluiceError } from '#shared/errors.ts'
import type { FileRow, FileStore, FileWriter } from '#shared/files/store.ts'
import { clean } from '#shared/text.ts'
import { utf8 } from './body-decoding.ts'
import { invalidField } from './invalid-field.ts'
import { type Part, readParts } from './multipart.ts'

/** The limit of OpenAI's Files API: 200 MB. */
export const MAX_FILE_BYTES = 209_715_200
/** The name of the part that holds the file. */
const FILE = 'file'
const MAX_FIELDS = 30
const MAX_FIELD_BYTES = 262_144
/** All fields of a form together. They are held beside two pieces of its file; an upload counts 1 MiB of BODY_MEMORY_MB. */
const MAX_FIELDS_BYTES = 524_288
const MAX_FILENAME = 255
/** A form that is larger than its file may be by more than this is refused without reading it. */
const FORM_BYTES = 1_048_576

export type FormFields = Readonly<Record<string, string>>

export type ReceiveOptions = {
  /** Maximum size of the file. */
  maxBytes: number
  /** Throws if a field makes the upload useless. Fields may come before or after the file. */
  checkField?(name: string, value: string): void
  /** Called when the form is complete. Throws to discard the file. */
  finish(fields: FormFields): { purpose: string; expiresSeconds?: number | null }
}

/** Accepts forms on the routes of this plugin. Handlers read the bytes from `request.body`. */
export const acceptForms = (app: FastifyInstance): void =>
  void app.addContentTypeParser('multipart/form-data', (_request, payload, done) => done(null, payload))

export const isForm = (request: FastifyRequest): boolean =>
  /^\s*multipart\/form-data\s*(?:;|$)/i.test(request.headers['content-type'] ?? '')

/**
 * Streams the file of a form into the store. If it throws, nothing is stored.
 * @throws SluiceError invalid_upload, invalid_request, body_too_large, field_too_large, unsupported_media_type; errors of
 * `checkField`, `finish` and the store
 */
export async function receiveFile(
  request: FastifyRequest,
  store: FileStore,
  options: ReceiveOptions,
): Promise<{ file: FileRow; fields: FormFields }> {
  const fields: Record<string, string> = Object.create(null)
  let fieldBytes = 0
  let writer: FileWriter | null = null
  try {
    if (!isForm(request)) throw new SluiceError('unsupported_media_type', 'Send multipart/form-data.')
    if (Number(request.headers['content-length']) > options.maxBytes + FORM_BYTES) throw tooLarge(options.maxBytes)
    for await (const part of asUploadErrors(readParts(request.body as Readable, request.headers, MAX_FIELDS + 2))) {
      if (!['7bit', '8bit', 'binary'].includes(part.encoding))
        throw invalid(part.name, 'must not have a content-transfer-encoding')
      if (part.filename === undefined && part.type !== 'application/octet-stream') {
        const { name, bytes } = await addField(fields, part)
        fieldBytes += bytes
        if (fieldBytes > MAX_FIELDS_BYTES)
          throw new SluiceError('field_too_large', 'The fields of the form are too large in total.', {
            context: { field: `/${name.slice(0, 100)}`, limit_bytes: MAX_FIELDS_BYTES },
          })
        options.checkField?.(name, fields[name]!)
      } else if (part.name !== FILE) {
        throw invalid(part.name, 'must not be a file')
      } else if (writer) {
        throw invalid(FILE, 'was sent more than once')
      } else {
        writer = await store.create({
          apiKeyId: request.apiKey.id,
          purpose: '',
          filename:
            clean(part.filename ?? '')
              .slice(0, MAX_FILENAME)
              .toWellFormed() || FILE,
        })
        await copy(part.bytes, writer, options.maxBytes)
      }
    }
    const meta = options.finish(fields)
    if (!writer) throw invalid(FILE, 'is missing; send it as a part of the form with a filename', { rule: 'required' })
    return { file: await writer.finish(meta), fields }
  } catch (error) {
    await writer?.abort()
    throw error
  }
}

/** Streams the whole body into the store, as `receiveFile` does with the file of a form. */
export async function receiveBody(
  request: FastifyRequest,
  store: FileStore,
  { maxBytes, ...file }: { maxBytes: number; purpose: string; filename: string },
): Promise<FileRow> {
  let writer: FileWriter | null = null
  try {
    if (Number(request.headers['content-length']) > maxBytes) throw tooLarge(maxBytes)
    writer = await store.create({ ...file, apiKeyId: request.apiKey.id })
    // By default, an iterator that ends early destroys the request, which could then not be answered.
    await copy((request.body as Readable).iterator({ destroyOnReturn: false }), writer, maxBytes)
    return await writer.finish()
  } catch (error) {
    await writer?.abort()
    throw error
  }
}

async function copy(source: AsyncIterable<Uint8Array>, writer: FileWriter, maxBytes: number): Promise<void> {
  let bytes = 0
  for await (const chunk of asUploadErrors(source)) {
    bytes += chunk.length
    if (bytes > maxBytes) throw tooLarge(maxBytes)
    await writer.write(chunk)
  }
}

async function addField(fields: Record<string, string>, part: Part): Promise<{ name: string; bytes: number }> {
  const name = clean(part.name ?? '')
  if (name === '') throw new SluiceError('invalid_upload', 'A part of the form has no name.')
  if (name === FILE) throw invalid(FILE, 'must be sent as a file, with a filename')
  if (name in fields) throw invalid(name, 'was sent more than once')
  if (Object.keys(fields).length === MAX_FIELDS)
    throw new SluiceError('invalid_upload', `The form has more than ${MAX_FIELDS} fields.`)
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of asUploadErrors<Buffer>(part.bytes)) {
    bytes += chunk.length
    if (bytes > MAX_FIELD_BYTES)
      throw new SluiceError('field_too_large', `\`${name.slice(0, 100)}\` is larger than ${MAX_FIELD_BYTES} bytes.`, {
        context: { field: `/${name.slice(0, 100)}`, limit_bytes: MAX_FIELD_BYTES },
      })
    chunks.push(chunk)
  }
  const text = utf8(Buffer.concat(chunks), `The field ${name.slice(0, 100)}`)
  fields[name] = part.type === 'application/json' ? unquote(text) : text
  return { name, bytes }
}

/** Some clients send every field as JSON, with quotes around a string. */
function unquote(json: string): string {
  if (!json.trimStart().startsWith('"')) return json
  try {
    return String(JSON.parse(json))
  } catch {
    return json
  }
}

/** Turns errors of the source into invalid_upload, so that they differ from errors of the store. */
async function* asUploadErrors<T>(source: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* source
  } catch (error) {
    if (error instanceof SluiceError) throw error
    throw new SluiceError('invalid_upload', `The upload cannot be read: ${(error as Error).message}`)
  }
}

export const invalid = (name: string, rule: string, more: object = {}) => invalidField(`/${name}`, rule, more)

const tooLarge = (maxBytes: number) =>
  new SluiceError('body_too_large', `The file is larger than ${Math.floor(maxBytes / 1_048_576)} MB.`, {
    context: { field: `/${FILE}`, limit_bytes: maxBytes },
  })
