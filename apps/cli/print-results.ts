import type { Writable } from 'node:stream'
import type { Results } from './download.ts'
import { Failure, fileReason } from './failure.ts'
import { persistently, type Session } from './session.ts'

/** Streams the answers to standard output and the errors to standard error. */
export async function printResults(
  session: Session,
  { answers, errors }: Results,
  { stdout, stderr }: { stdout: Writable; stderr: Writable },
): Promise<void> {
  await print(session, answers, stdout)
  await print(session, errors, stderr)
}

async function print(session: Session, fileId: string | null, to: Writable): Promise<void> {
  if (fileId === null) return
  let written = 0
  await persistently(session, async () => {
    // After a broken connection the download starts from the beginning.
    let skip = written
    for await (const piece of await session.client.files.content(fileId, { signal: session.signal })) {
      const rest = piece.subarray(Math.min(skip, piece.length))
      skip -= piece.length - rest.length
      if (rest.length === 0) continue
      if (!(await write(to, rest))) return
      written += rest.length
    }
  })
}

/** @returns false if the reader is gone, as behind `| head` */
async function write(to: Writable, piece: Uint8Array): Promise<boolean> {
  const error = await new Promise<NodeJS.ErrnoException | null | undefined>(resolve => {
    to.write(piece, resolve)
  })
  if (!error) return true
  if (error.code === 'EPIPE' || error.code === 'ERR_STREAM_DESTROYED') return false
  throw new Failure(`the output cannot be written: ${fileReason(error) ?? error.message}`)
}
