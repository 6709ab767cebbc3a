import { onTestFinished } from 'vitest'
import type { Running } from '#apps/local/process.ts'
import { type Closers, closeAll, serverDirectory } from './servers.ts'

/** Registers a cleanup that runs after a test. Concurrent tests pass the function of their own context. */
export type Finished = (close: () => void | Promise<void>) => void

/** A directory for servers, removed after the test. */
export function temporaryDirectory(finished: Finished = onTestFinished): string {
  const closers: Closers = []
  const { dir } = serverDirectory(closers)
  finished(() => closeAll(closers))
  return dir
}

/** Stops a server after the test, also after a failure. */
export function stopAfterTest<R extends Running>(running: R, finished: Finished = onTestFinished): R {
  finished(() => running.stop())
  return running
}
