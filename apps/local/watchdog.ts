import { spawn } from 'node:child_process'
import { join } from 'node:path'
import type { Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { commandOf, readPid, signalIfAlive, writeAtomic } from './process.ts'

const NAME = 'sluice-watchdog'
/** Reads until the last holder of the other end is gone, then ends the servers whose pid files are still there. */
const SCRIPT = 'while read -r _; do :; done; for f; do read -r pid <"$f" && kill -INT "$pid"; done'

export type Watchdog = {
  /** Every process that needs the servers holds this open. */
  held: Writable
  dismiss(): void
}

/**
 * Ends the servers after we were killed with -9, which nobody can react to: a shell that waits for end-of-file on a pipe
 * whose other end we and our children hold. So the children, which notice our death by their IPC channel, can drain
 * first.
 */
export function startWatchdog(dir: string, pidFiles: string[]): Watchdog {
  const child = spawn('sh', ['-c', SCRIPT, NAME, ...pidFiles], {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  child.on('error', () => {})
  child.stdin.on('error', () => {})
  child.unref()
  const pid = child.pid ?? 0
  writeAtomic(join(dir, 'watchdog.pid'), `${pid}\n`)
  return { held: child.stdin, dismiss: () => signalIfAlive(pid, 'SIGKILL') }
}

/** Waits until the children of a run that was killed have drained: they still hold its ports. */
export async function awaitEarlierRun(
  dir: string,
  o: { withinMs: number; log: (line: string) => void; signal: AbortSignal },
): Promise<void> {
  const pid = readPid(join(dir, 'watchdog.pid'))
  const alive = () => pid !== null && commandOf(pid)?.includes(NAME) === true
  if (!alive()) return
  o.log('an earlier run was killed; waiting for its processes to finish')
  const deadline = Date.now() + o.withinMs
  while (alive() && Date.now() < deadline && !o.signal.aborted) await delay(100)
}
