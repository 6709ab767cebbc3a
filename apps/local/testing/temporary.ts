import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import type { Running } from '../process.ts'
import { startWatchdog } from '../watchdog.ts'

/** A directory that another user may pass through, gone after the test, with the servers in it if that was killed. */
export function temporaryDirectory(): string {
  const dir = mkdtempSync(join(tmpdir(), 'sluice-test-'))
  chmodSync(dir, 0o711)
  const redis = ['.', 'queue', 'cache', '0', '1', '2'].map(name => join(name, 'redis.pid'))
  const pidFiles = ['postgres/data/postmaster.pid', ...redis].map(file => join(dir, file))
  const watchdog = startWatchdog({ pidFiles, remove: dir })
  onTestFinished(watchdog.dismiss)
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** Stops it after the test, also when that fails. */
export function stopAfterTest<R extends Running>(running: R): R {
  onTestFinished(() => running.stop())
  return running
}
