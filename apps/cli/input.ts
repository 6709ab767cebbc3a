import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { type FileHandle, mkdtemp, open, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { addAbortSignal, type Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip } from 'node:zlib'
import { Failure } from './failure.ts'

/** The name of standard input, and of standard output. */
export const STANDARD = '-'

/** The largest decompressed input, in bytes, that the server accepts. */
const MAX_INPUT_BYTES = 209_715_200
const PIECE_BYTES = 256 * 1024
const GZIP = Buffer.from([0x1f, 0x8b])

/** The file to upload: decompressed, and never entirely in memory. */
export type Input = {
  /** Its name in messages. */
  label: string
  filename: string
  /** Bytes. */
  size: number
  /** Hex. The same for compressed and plain input. */
  sha256: string
  /** Reads from the beginning. @throws Failure if the gzip data are damaged */
  read(): AsyncIterable<Uint8Array>
  close(): Promise<void>
}

/**
 * Opens a file, a pipe or standard input (`-`), plain or gzip. Input that cannot be read twice is copied to a temporary
 * file first.
 * @throws Failure, errors of reading, or the reason of `signal`
 */
export async function openInput(path: string, stdin: Readable, signal: AbortSignal): Promise<Input> {
  const label = path === STANDARD ? 'standard input' : path
  const found = path === STANDARD ? null : await stat(path)
  if (found?.isDirectory()) throw new Failure(`${path}: is a directory`)
  const source = found?.isFile()
    ? { open: () => createReadStream(path, { highWaterMark: PIECE_BYTES }), close: async () => {} }
    : await spool(found ? createReadStream(path) : stdin, label, signal)
  try {
    const compressed = await isGzip(source.open())
    if (!compressed && found?.isFile() && found.size > 0 && /\.gz$/i.test(path))
      throw new Failure(`${label}: is named .gz, but is not gzip-compressed`)
    const read = () => (compressed ? decompressed(source.open(), label) : source.open())
    const { size, sha256 } = await measure(read(), label, signal)
    if (size === 0) throw new Failure(`${label}: is empty`)
    const filename = path === STANDARD ? 'stdin.jsonl' : basename(path).replace(compressed ? /\.gz$/i : /$^/, '')
    return { label, filename, size, sha256, read, close: source.close }
  } catch (error) {
    await source.close()
    throw error
  }
}

/** Copies a stream to a file without a name, so that a killed process leaves nothing behind. */
async function spool(from: Readable, label: string, signal: AbortSignal) {
  const dir = await mkdtemp(join(tmpdir(), 'sluice-'))
  let handle: FileHandle | null = null
  const close = async () => {
    await handle?.close().catch(() => {})
    await rm(dir, { recursive: true, force: true })
  }
  try {
    const file = await open(join(dir, 'input'), 'wx+', 0o600)
    handle = file
    // Windows does not delete open files; `close` does it there.
    await rm(dir, { recursive: true, force: true }).catch(() => {})
    let size = 0
    for await (const piece of addAbortSignal(signal, from) as AsyncIterable<Buffer>) {
      size += piece.length
      if (size > MAX_INPUT_BYTES) throw tooLarge(label)
      await file.writeFile(piece)
    }
    return { open: () => piecesOf(file), close }
  } catch (error) {
    await close()
    signal.throwIfAborted()
    throw error
  }
}

async function* piecesOf(file: FileHandle): AsyncGenerator<Uint8Array> {
  for (let at = 0; ; ) {
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(PIECE_BYTES), 0, PIECE_BYTES, at)
    if (bytesRead === 0) return
    yield buffer.subarray(0, bytesRead)
    at += bytesRead
  }
}

const tooLarge = (label: string) =>
  new Failure(`${label}: is larger than ${MAX_INPUT_BYTES / 1_048_576} MB, the maximum of a batch: split it`)

async function isGzip(pieces: AsyncIterable<Uint8Array>): Promise<boolean> {
  let head = Buffer.alloc(0)
  for await (const piece of pieces) {
    head = Buffer.concat([head, piece])
    if (head.length >= GZIP.length) break
  }
  return head.subarray(0, GZIP.length).equals(GZIP)
}

async function* decompressed(raw: AsyncIterable<Uint8Array>, label: string): AsyncGenerator<Uint8Array> {
  const gunzip = createGunzip({ chunkSize: PIECE_BYTES })
  // The iteration throws its errors.
  pipeline(raw, gunzip).catch(() => {})
  try {
    yield* gunzip
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (!code?.startsWith('Z_')) throw error
    throw new Failure(`${label}: the gzip data are damaged (${message})`)
  }
}

async function measure(pieces: AsyncIterable<Uint8Array>, label: string, signal: AbortSignal) {
  const hash = createHash('sha256')
  let size = 0
  for await (const piece of pieces) {
    signal.throwIfAborted()
    size += piece.length
    if (size > MAX_INPUT_BYTES) throw tooLarge(label)
    hash.update(piece)
  }
  return { size, sha256: hash.digest('hex') }
}
