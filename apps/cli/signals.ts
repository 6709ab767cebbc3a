import { Interrupted } from './failure.ts'

/** One Ctrl-C may arrive twice, from the terminal and from npm, which forwards it; a later one exits at once. */
const SAME_CTRL_C_MS = 500

/** Aborted with `Interrupted` by the first signal. */
export function stopSignal(face: Pick<NodeJS.Process, 'on' | 'exit'>): AbortSignal {
  const stop = new AbortController()
  let stoppedAt = 0
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    face.on(signal, () => {
      if (!stop.signal.aborted) {
        stoppedAt = performance.now()
        stop.abort(new Interrupted(signal))
      } else if (signal === 'SIGINT' && performance.now() - stoppedAt > SAME_CTRL_C_MS) {
        face.exit(new Interrupted(signal).exitCode)
      }
    })
  }
  return stop.signal
}
