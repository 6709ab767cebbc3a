import type { Reason } from '#shared/process/parent-ipc.ts'
import type { Running } from './process.ts'
import type { SuperviseDeps } from './supervise.ts'

const PROBE_EVERY_MS = 5000
const PROBE_TIMEOUT_MS = 5000
/** Counted in probes, because a suspension of this process fails one probe of every child. */
const MAX_SILENT_PROBES = 3

/**
 * Ends a worker that is stuck, so that its supervisor starts it again. As in Kubernetes, its `/health/live` decides: 503
 * means that it takes no jobs although there are some, and three probes without an answer that its event loop stands still.
 */
export async function endIfStuck(
  child: Running,
  o: Pick<SuperviseDeps, 'log' | 'wait'> & {
    name: string
    probe: () => Promise<number | null>
    onStuck: (reason: Reason) => void
  },
): Promise<void> {
  const exited = new AbortController()
  void child.exited.then(() => exited.abort())
  for (let silent = 0; ; ) {
    await o.wait(PROBE_EVERY_MS, exited.signal)
    const status = exited.signal.aborted ? null : await o.probe()
    if (exited.signal.aborted) return
    silent = status === null ? silent + 1 : 0
    if (status === 503) {
      o.log(`${o.name} takes no jobs although there are some; restarting it`)
      o.onStuck('not_consuming')
      return child.stop()
    }
    if (silent === MAX_SILENT_PROBES) {
      o.log(`${o.name} does not answer; killing it`)
      o.onStuck('frozen')
      return child.kill()
    }
  }
}

/** The HTTP status of the answer; null: there was none within five seconds. */
export async function probe(url: string): Promise<number | null> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) })
    await response.body?.cancel()
    return response.status
  } catch {
    return null
  }
}
