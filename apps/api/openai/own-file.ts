import type { FastifyRequest } from 'fastify'
import { SluiceError } from '#shared/errors.ts'
import type { FileRow, FileStore } from '#shared/files/store.ts'
import { fromWire, newId } from '#shared/ids.ts'
import { mayAccess } from '../http/auth.ts'
import { unknownCursor } from '../http/pagination.ts'

/** The file with this id, if the key may see it. @throws SluiceError file_not_found, naming `field` */
export async function ownFile(
  files: FileStore,
  { apiKey }: FastifyRequest,
  wireId: string,
  field = 'id',
): Promise<FileRow> {
  const id = fromWire('file', wireId)
  const file = id && (await files.find(id))
  if (file && mayAccess(apiKey, file.api_key_id)) return file
  throw fileNotFound(wireId, field)
}

export const fileNotFound = (wireId: string, field: string) =>
  new SluiceError('file_not_found', `No such File object: ${wireId.slice(0, 100)}`, { context: { field: `/${field}` } })

/**
 * The file after which a page begins. The id of a deleted file is accepted, because clients delete files while they page through
 * them. No record of a deleted file remains, so every id that this server could have created is accepted.
 * @throws SluiceError invalid_request
 */
export async function readFileCursor(files: FileStore, { apiKey }: FastifyRequest, after: string): Promise<string> {
  const id = fromWire('file', after)
  const file = id && (await files.find(id))
  if (id && (file ? mayAccess(apiKey, file.api_key_id) : couldExist(id))) return id
  throw unknownCursor('file', after, 'last_id')
}

/** Whether this server could have created the id: a UUIDv7 of the past. */
const couldExist = (id: string): boolean => id[14] === '7' && id > FIRST_ID && id < newId()
const FIRST_ID = '01940000-0000-7000-8000-000000000000'
