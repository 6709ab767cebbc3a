import { watch } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { repeatEvery } from '#shared/process/lifecycle.ts'
import { createFileFollower } from '#shared/settings/file-follower.ts'

/** Also finds changes of which the system sends no event, as on network file systems. */
const POLL_MS = 2000
const SETTLE_MS = 100
/** A file of more bytes is refused. */
const MAX_BYTES = 1_000_000

/** @throws Error if the file cannot be read or is too large */
export async function readBounded(path: string): Promise<string> {
  const { size } = await stat(path)
  if (size > MAX_BYTES) throw new Error(`has more than ${MAX_BYTES} bytes`)
  return await readFile(path, 'utf8')
}

/**
 * Calls `apply` with the text of the file whenever it changes.
 * @param options.initial the text that is known already
 * @returns stops it
 */
export function followFile(options: {
  path: string
  initial: string
  apply(text: string): void
  fail(error: unknown): void
}): () => Promise<void> {
  const { path } = options
  const follower = createFileFollower({ ...options, read: () => readBounded(path) })
  let timer: NodeJS.Timeout | undefined
  const check = async () => {
    if (await follower.poll()) soon()
  }
  const soon = () => {
    clearTimeout(timer)
    timer = setTimeout(() => void check(), SETTLE_MS)
    timer.unref()
  }
  const stopPolling = repeatEvery(POLL_MS, check, options.fail)
  // The folder, because a file that is replaced would no longer be watched. Kubernetes replaces a link beside it.
  const watcher = watch(dirname(path), { persistent: false }, soon)
  watcher.on('error', () => watcher.close())
  return async () => {
    watcher.close()
    clearTimeout(timer)
    await stopPolling()
  }
}
