import { createReadStream } from 'node:fs'
import { basename } from 'node:path'
import { bytesOf, type Http, type RequestOptions } from './http.ts'
import { multipart } from './multipart.ts'
import type { FileObject, Page } from './types.ts'

export type UploadOptions = RequestOptions & {
  /** Default `batch`. */
  purpose?: string
  /** Default: the last part of the path. */
  filename?: string
  expiresAfterSeconds?: number
}

const PIECE_BYTES = 256 * 1024

export function createFiles(http: Http) {
  const path = (id: string) => `/v1/files/${encodeURIComponent(id)}`
  return {
    /**
     * Uploads a file, by its path or its bytes, as a stream. A file given by its path is sent again if the connection
     * breaks; the first upload may then exist, too, unused. @throws errors of reading the file
     */
    async upload(
      source: string | AsyncIterable<Uint8Array>,
      { purpose = 'batch', filename, expiresAfterSeconds, signal }: UploadOptions = {},
    ): Promise<FileObject> {
      const name = filename ?? (typeof source === 'string' ? basename(source) : 'file')
      const fields = {
        purpose,
        ...(expiresAfterSeconds !== undefined && {
          'expires_after[anchor]': 'created_at',
          'expires_after[seconds]': String(expiresAfterSeconds),
        }),
      }
      const cannotRead = new AbortController()
      async function* read(): AsyncGenerator<Uint8Array> {
        try {
          yield* typeof source === 'string' ? createReadStream(source, { highWaterMark: PIECE_BYTES }) : source
        } catch (error) {
          // Not a connection error: no retry.
          cannotRead.abort(error)
          throw error
        }
      }
      return http.json<FileObject>({
        method: 'POST',
        path: '/v1/files',
        body: () => multipart(fields, { filename: name, bytes: read() }),
        repeatable: typeof source === 'string' || 'once',
        timeoutMs: null,
        signal: signal ? AbortSignal.any([signal, cannotRead.signal]) : cannotRead.signal,
      })
    },

    get: (id: string, { signal }: RequestOptions = {}) =>
      http.json<FileObject>({ method: 'GET', path: path(id), repeatable: true, signal }),

    list: ({ after, limit, signal }: RequestOptions & { after?: string; limit?: number } = {}) =>
      http.json<Page<FileObject>>({
        method: 'GET',
        path: `/v1/files${query({ after, limit })}`,
        repeatable: true,
        signal,
      }),

    delete: (id: string, { signal }: RequestOptions = {}) =>
      http.json<{ id: string; object: 'file'; deleted: boolean }>({
        method: 'DELETE',
        path: path(id),
        repeatable: false,
        signal,
      }),

    /** Streams the content. The iteration throws SluiceConnectionError if the connection breaks before the end. */
    async content(id: string, { signal }: RequestOptions = {}): Promise<AsyncIterable<Uint8Array>> {
      const response = await http.request({ method: 'GET', path: `${path(id)}/content`, repeatable: true, signal })
      return bytesOf(response, signal)
    },
  }
}

/** The query string of the defined values, such as `?a=1&b=2`. */
export function query(values: Record<string, string | number | undefined>): string {
  const given = Object.entries(values).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, String(value)] as [string, string]],
  )
  return given.length === 0 ? '' : `?${new URLSearchParams(given)}`
}
