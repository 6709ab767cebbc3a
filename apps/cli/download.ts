import { type FileHandle, open, realpath, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { Failure, fileReason } from './failure.ts'
import { persistently, type Session } from './session.ts'

/** `out.jsonl` -> `out.errors.jsonl` */
export const errorsPath = (output: string): string => `${output.replace(/\.jsonl$/, '')}.errors.jsonl`

/** Finds out before anything is paid for. @throws Failure */
export async function checkOutput(output: string, input: string | null = null): Promise<void> {
  for (const path of [output, errorsPath(output)]) {
    const found = await stat(path).catch(() => null)
    if (found && !found.isFile()) throw new Failure(`${path}: not a regular file`)
    if (found && input !== null && (await realpath(path)) === (await realpath(input))) {
      throw new Failure(`${path} would overwrite the input`)
    }
  }
  const probe = await openPart(output)
  await probe.drop()
}

/** The content of a file of the server's, whole or not at all; null: an empty file. */
export async function download(session: Session, fileId: string | null, path: string): Promise<void> {
  await persistently(session, async () => {
    const part = await openPart(path)
    try {
      if (fileId !== null) {
        const bytes = await session.client.files.content(fileId, { signal: session.signal })
        for await (const piece of bytes) await part.handle.writeFile(piece)
      }
      await part.handle.sync()
      await part.handle.close()
      await rename(part.path, part.target)
    } catch (error) {
      await part.drop()
      throw named(error, path)
    }
  })
}

async function openPart(
  path: string,
): Promise<{ handle: FileHandle; path: string; target: string; drop(): Promise<void> }> {
  // A symbolic link stays one.
  const target = await realpath(path).catch(() => resolve(path))
  const partPath = join(dirname(target), `.${basename(target)}.${process.pid}.part`)
  const handle = await open(partPath, 'w').catch((error: unknown) => {
    throw named(error, path)
  })
  return {
    handle,
    path: partPath,
    target,
    async drop() {
      await handle.close().catch(() => {})
      await rm(partPath, { force: true })
    },
  }
}

/** With the name that the user knows. */
function named(error: unknown, path: string): unknown {
  const reason = fileReason(error)
  return reason === null ? error : new Failure(`${path}: ${reason}`)
}
