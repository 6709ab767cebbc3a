import { once } from 'node:events'
import { PassThrough, type Readable } from 'node:stream'
import type { StoredFile } from '#shared/db/files.ts'
import { type Backend, FileLost, FilesUnavailable, type Sink } from './backend.ts'
import { PIECE_BYTES } from './pieces.ts'

/** How often a writer says that it lives. */
const TOUCH_MS = 10_000
const CONNECT_MS = 3000
/** Until S3 begins to answer. */
const ANSWER_MS = 30_000

export type S3Options = {
  /** s3://bucket/prefix; undefined: nothing is kept there, and what was cannot be read. */
  url: string | undefined
  endpoint: string | undefined
  /** @returns false: the file was given up */
  touch(file: StoredFile): Promise<boolean>
}

/**
 * Bytes as one object a file, in S3 or what speaks like it. Its key has the file's version in it, so that a writer that was
 * taken for dead spoils nothing of the one after it.
 */
export function createS3Backend({ url, endpoint, touch }: S3Options): Backend {
  let opened: ReturnType<typeof connect> | null = null
  const open = () => {
    if (!url) throw new FilesUnavailable('FILES_URL is not set, and the file is in S3')
    opened ??= connect(endpoint)
    return opened
  }
  const { bucket, prefix } = url ? locate(url) : { bucket: '', prefix: '' }
  const at = (file: StoredFile) => ({ Bucket: bucket, Key: `${prefix}${file.id}-${file.version}` })

  return {
    open: file => createSink(open, at(file), () => touch(file)),

    async *read(file) {
      const { sdk, client } = await open()
      let read = 0
      try {
        const { Body } = await client.send(new sdk.GetObjectCommand(at(file)))
        for await (const bytes of Body as Readable) {
          read += (bytes as Buffer).length
          yield bytes as Buffer
        }
      } catch (error) {
        throw translate(error)
      }
      if (read !== file.bytes) throw new FileLost(`file ${file.id}: S3 has ${read} of its ${file.bytes} bytes`)
    },

    async drop(file) {
      const { sdk, client } = await open()
      const { Bucket, Key } = at(file)
      try {
        if (file.sha256 === null) {
          // What a dead process had sent is kept by S3, and paid for, until the upload is aborted.
          const { Uploads = [] } = await client.send(new sdk.ListMultipartUploadsCommand({ Bucket, Prefix: Key }))
          for (const { UploadId } of Uploads)
            await client.send(new sdk.AbortMultipartUploadCommand({ Bucket, Key, UploadId }))
        }
        await client.send(new sdk.DeleteObjectCommand({ Bucket, Key }))
      } catch (error) {
        throw translate(error)
      }
      return false
    },
  }
}

type Connect = () => ReturnType<typeof connect>

/** An upload in parts of 5 MiB, one at a time: so much and a few pieces are held. */
function createSink(open: Connect, at: { Bucket: string; Key: string }, touch: () => Promise<boolean>): Sink {
  const body = new PassThrough({ highWaterMark: PIECE_BYTES })
  // Its error is that of `done` as well.
  body.on('error', () => {})
  let touched = performance.now()
  const send = async () => {
    const { storage, client } = await open()
    await new storage.Upload({ client, params: { ...at, Body: body }, queueSize: 1 }).done()
  }
  let sending: Promise<void> | null = null
  const start = () => {
    sending ??= send().catch(error => {
      body.destroy(error as Error)
      throw translate(error)
    })
    // Awaited at the end, at the latest.
    sending.catch(() => {})
    return sending
  }

  return {
    async write(piece) {
      const done = start()
      if (body.destroyed) return done
      if (!body.write(piece)) await Promise.race([once(body, 'drain').catch(() => done), done])
      if (performance.now() - touched < TOUCH_MS) return
      touched = performance.now()
      if (!(await touch())) throw new FileLost('the file was given up')
    },
    end() {
      const done = start()
      body.end()
      return done
    },
    async abort() {
      // The upload meets this error where it reads on, and tells S3 to forget the parts.
      body.destroy(new Error('aborted'))
      await sending?.catch(() => {})
    },
  }
}

/** Loaded when the first file is touched: nobody else pays for its memory. */
async function connect(endpoint: string | undefined) {
  const [sdk, storage] = await Promise.all([import('@aws-sdk/client-s3'), import('@aws-sdk/lib-storage')])
  const client = new sdk.S3Client({
    requestHandler: { connectionTimeout: CONNECT_MS, requestTimeout: ANSWER_MS, throwOnRequestTimeout: true },
    ...(endpoint && {
      endpoint,
      forcePathStyle: true,
      // Not all that speak like S3 know its newer checksums.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
    }),
  })
  return { sdk, storage, client }
}

function locate(url: string): { bucket: string; prefix: string } {
  const [, bucket = '', path = ''] = /^s3:\/\/([^/]+)\/*(.*?)\/*$/.exec(url) ?? []
  return { bucket, prefix: path === '' ? '' : `${path}/` }
}

function translate(error: unknown): Error {
  if (error instanceof FileLost || error instanceof FilesUnavailable) return error
  const { name, message } = error as Error
  return name === 'NoSuchKey'
    ? new FileLost(`S3 has no such object`, { cause: error })
    : new FilesUnavailable(`S3: ${name}: ${message}`, { cause: error })
}
