import { type FileHandle, open, readdir, realpath, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { Failure, fileReason } from './failure.ts'
import { persistently, type Session } from './session.ts'

/** `out.jsonl` -> `out.errors.jsonl` */
export const errorsPath = (output: string): string => `${output.replace(/\.jsonl$/, '')}.errors.jsonl`

/** Checks that the output can be written, before anything is paid for, and deletes leftovers of killed runs. @throws Failure */
export async function checkOutput(output: string, input: string | null = null): Promise<void> {
  for (const path of [output, errorsPath(output)]) {
    const found = await stat(path).catch(() => null)
    if (found && !found.isFile()) throw new Failure(`${path}: not a regular file`)
    if (found && input !== null && (await realpath(path)) === (await realpath(input))) {
      throw new Failure(`${path} would overwrite the input`)
    }
    await dropLeftovers(path)
  }
  const probe = await openPart(output)
  await probe.drop()
}

/** Ids of the files; null: an empty file of answers, no file of errors. */
export type Results = { answers: string | null; errors: string | null }

/**
 * Writes both files completely, or neither. The answers appear last, because `findEarlier` takes them for a completed
 * download, and errors of an earlier run must not stand beside them.
 */
export async function download(session: Session, { answers, errors }: Results, output: string): Promise<void> {
  const parts: Part[] = []
  try {
    const wholeAnswers = await fetchPart(session, answers, output)
    parts.push(wholeAnswers)
    if (errors === null) await rm(errorsPath(output), { force: true })
    else {
      const wholeErrors = await fetchPart(session, errors, errorsPath(output))
      parts.push(wholeErrors)
      await wholeErrors.place()
    }
    await wholeAnswers.place()
  } finally {
    for (const part of parts) await part.drop()
  }
}

async function fetchPart(session: Session, fileId: string | null, path: string): Promise<Part> {
  return persistently(session, async () => {
    const part = await openPart(path)
    try {
      if (fileId !== null) {
        const bytes = await session.client.files.content(fileId, { signal: session.signal })
        for await (const piece of bytes) await part.handle.writeFile(piece)
      }
      await part.handle.sync()
      await part.handle.close()
      return part
    } catch (error) {
      await part.drop()
      throw named(error, path)
    }
  })
}

/** A file under a temporary name until it is complete. */
type Part = {
  handle: FileHandle
  place(): Promise<void>
  /** Deletes it, unless it is in its place. */
  drop(): Promise<void>
}

/** The file itself: symbolic links are followed, not replaced. */
const targetOf = (path: string): Promise<string> => realpath(path).catch(() => resolve(path))

const partName = (target: string, pid: number | string): string => `.${basename(target)}.${pid}.part`

async function dropLeftovers(path: string): Promise<void> {
  const target = await targetOf(path)
  for (const name of await readdir(dirname(target)).catch(() => [])) {
    const pid = /\.(\d+)\.part$/.exec(name)?.[1]
    if (pid === undefined || name !== partName(target, pid) || isAlive(Number(pid))) continue
    // A leftover that cannot be deleted does no harm.
    await rm(join(dirname(target), name), { force: true }).catch(() => {})
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}

async function openPart(path: string): Promise<Part> {
  const target = await targetOf(path)
  const partPath = join(dirname(target), partName(target, process.pid))
  const handle = await open(partPath, 'w').catch((error: unknown) => {
    throw named(error, path)
  })
  return {
    handle,
    place: () =>
      rename(partPath, target).catch((error: unknown) => {
        throw named(error, path)
      }),
    async drop() {
      await handle.close().catch(() => {})
      await rm(partPath, { force: true })
    },
  }
}

/** The error with the path that the user gave. */
function named(error: unknown, path: string): unknown {
  const reason = fileReason(error)
  return reason === null ? error : new Failure(`${path}: ${reason}`)
}
