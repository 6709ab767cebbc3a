import { spawn } from 'node:child_process'
import type { Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { commandOf, exitOf, readPid, signalIfAlive, writeAtomic } from './process.ts'
import { supervise } from './supervise.ts'

const NAME = 'sluice-watchdog'
/**
 * Reads until the last holder of the other end is gone, then ends the servers whose pid files are still there. The pid of
 * a file that survived a power failure may belong to another process, so the name of the program is checked.
 */
const SCRIPT = `
is_server() {
  if [ -e /proc/self/cmdline ]; then program=$(tr '\\0' '\\n' <"/proc/$1/cmdline" | head -n 1)
  else program=$(ps -o comm= -p "$1"); fi
  case \${program##*/} in *postgres*|*redis*|*valkey*) ;; *) return 1 ;; esac
}
while read -r _; do :; done
remove=$1; shift
for f; do
  if read -r pid <"$f" && is_server "$pid"; then
    kill -INT "$pid"
    n=0
    # Bounded: where orphans are not reaped, a zombie answers for ever.
    while [ "$remove" ] && [ $n -lt 100 ] && kill -0 "$pid"; do n=$((n + 1)); sleep 0.1; done
  fi
done
if [ "$remove" ]; then rm -rf "$remove"; fi`

export type Watchdog = {
  /** Every process that needs the servers holds this open. It changes when the watchdog is started again. */
  readonly held: Writable
  dismiss(): void
}

/**
 * Ends the servers after this process was killed with SIGKILL: a shell waits for end-of-file on a pipe whose other end is
 * held by this process and its children. So the children, whose IPC channel closes, can drain first. If the shell dies,
 * another takes over, which does not wait for children that started before.
 */
export function startWatchdog(o: {
  pidFiles: string[]
  /** File for its own pid, for `awaitEarlierRun`. */
  pidFile?: string
  /** A directory to remove at the end. */
  remove?: string
  log?: (line: string) => void
}): Watchdog {
  let held: Writable
  const start = () => {
    const child = spawn('sh', ['-c', SCRIPT, NAME, o.remove ?? '', ...o.pidFiles], {
      cwd: '/',
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    })
    child.stdin.on('error', () => {})
    child.unref()
    held = child.stdin
    const pid = child.pid ?? 0
    const exited = exitOf(child)
    if (o.pidFile) writeAtomic(o.pidFile, `${pid}\n`)
    const kill = () => signalIfAlive(pid, 'SIGKILL')
    return { pid, exited, stop: async () => kill(), kill }
  }
  const kept = supervise({
    name: 'watchdog',
    first: start(),
    start: async () => start(),
    log: o.log ?? (() => {}),
    now: () => performance.now(),
    wait: (ms, signal) => delay(ms, undefined, { signal, ref: false }).catch(() => {}),
  })
  return {
    get held() {
      return held
    },
    dismiss: () => kept.kill(),
  }
}

/** Waits until the children of a killed run, which still hold its ports, have drained. */
export async function awaitEarlierRun(
  pidFile: string,
  o: { withinMs: number; log: (line: string) => void; signal: AbortSignal },
): Promise<void> {
  const pid = readPid(pidFile)
  const alive = () => pid !== null && commandOf(pid)?.includes(NAME) === true
  if (!alive()) return
  o.log('an earlier run was killed; waiting for its processes to finish')
  const deadline = Date.now() + o.withinMs
  while (alive() && Date.now() < deadline && !o.signal.aborted) await delay(100)
}
