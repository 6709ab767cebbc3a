import { once } from 'node:events'
import http from 'node:http'
import https from 'node:https'
import { PassThrough, type Readable } from 'node:stream'
import type { StoredFile } from '#shared/db/files.ts'
import { type ProxySettings, proxyFor } from '#shared/settings/proxy.ts'
import { type Backend, FileLost, FilesUnavailable, type Sink } from './backend.ts'
import { FILE_CHUNK_BYTES } from './file-chunks.ts'

/** Interval at which a writer shows that it is alive. */
const TOUCH_MS = 10_000
const CONNECT_MS = 3000
/** Time to the start of S3's response. */
const ANSWER_MS = 30_000

export type S3Options = {
  /** s3://bucket/prefix; undefined: files in S3 cannot be read. */
  url: string | undefined
  endpoint: string | undefined
  proxies?: ProxySettings | undefined
  /** @returns false: the file was abandoned */
  touch(file: StoredFile): Promise<boolean>
}

/**
 * Stores each file as one object in S3 or a compatible service. The key contains the file's version, so that a writer that was
 * considered dead cannot damage the file of its successor.
 */
export function createS3Backend({ url, endpoint, proxies, touch }: S3Options): Backend {
  let opened: ReturnType<typeof connect> | null = null
  const open = () => {
    if (!url) throw new FilesUnavailable('FILES_URL is not set, and the file is in S3')
    opened ??= connect(endpoint, proxies)
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
          // S3 keeps, and charges for, the parts of a dead process until the upload is aborted.
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

/** Uploads in parts of 5 MiB, one at a time. Holds one part and a few chunks. */
function createSink(open: Connect, at: { Bucket: string; Key: string }, touch: () => Promise<boolean>): Sink {
  const body = new PassThrough({ highWaterMark: FILE_CHUNK_BYTES })
  // `done` rejects with the same error.
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
    // Awaited by `write` or `end`.
    sending.catch(() => {})
    return sending
  }

  return {
    async write(chunk) {
      const done = start()
      if (body.destroyed) return done
      if (!body.write(chunk)) await Promise.race([once(body, 'drain').catch(() => done), done])
      if (performance.now() - touched < TOUCH_MS) return
      touched = performance.now()
      if (!(await touch())) throw new FileLost('the file was abandoned')
    },
    end() {
      const done = start()
      body.end()
      return done
    },
    async abort() {
      // The upload fails with this error and aborts its parts in S3.
      body.destroy(new Error('aborted'))
      await sending?.catch(() => {})
    },
  }
}

/** Loads the SDK with the first file, so that its memory is used only where files are in S3. */
async function connect(endpoint: string | undefined, proxies: ProxySettings | undefined) {
  const [sdk, storage] = await Promise.all([import('@aws-sdk/client-s3'), import('@aws-sdk/lib-storage')])
  const client = new sdk.S3Client({
    requestHandler: {
      connectionTimeout: CONNECT_MS,
      requestTimeout: ANSWER_MS,
      throwOnRequestTimeout: true,
      ...(proxies && agentsFor(proxies, endpoint)),
    },
    ...(endpoint && {
      endpoint,
      forcePathStyle: true,
      // Some compatible services do not support the newer checksums.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
    }),
  })
  return { sdk, storage, client }
}

/** Without an endpoint only the SDK knows the host, which contains the bucket. The agents of Node then apply NO_PROXY. */
function agentsFor(proxies: ProxySettings, endpoint: string | undefined) {
  if (endpoint && proxyFor(proxies, new URL(endpoint)) === null) return {}
  const { http: forHttp, https: forHttps, noProxy } = proxies
  const options = {
    keepAlive: true,
    maxSockets: 50,
    proxyEnv: {
      ...(forHttp && { HTTP_PROXY: forHttp }),
      ...(forHttps && { HTTPS_PROXY: forHttps }),
      ...(!endpoint && { NO_PROXY: noProxy }),
    },
  }
  return { httpAgent: new http.Agent(options), httpsAgent: new https.Agent(options) }
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
