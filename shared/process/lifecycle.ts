import type { Logger } from './logger.ts'

export type Lifecycle = {
  /** Registers the release of a resource. Resources are released last in, first out, each within its deadline. */
  defer(name: string, release: () => unknown, deadlineMs?: number): void
  /** Releases everything, once; later calls wait for the first. Never rejects. */
  stop(): Promise<void>
  readonly stopping: boolean
}

export function createLifecycle(logger: Logger): Lifecycle {
  const stack: { name: string; release: () => unknown; deadlineMs: number }[] = []
  let stopped: Promise<void> | null = null

  async function release(): Promise<void> {
    for (let resource = stack.pop(); resource; resource = stack.pop()) {
      try {
        await withDeadline(Promise.resolve().then(resource.release), resource.deadlineMs)
      } catch (error) {
        logger.warn({ err: error, resource: resource.name }, 'resource was not released in time')
      }
    }
  }

  return {
    defer: (name, release, deadlineMs = 5000) => void stack.push({ name, release, deadlineMs }),
    stop: () => (stopped ??= release()),
    get stopping() {
      return stopped !== null
    },
  }
}

/** Rejects when `work` takes longer than `ms`. The work itself continues. */
export function withDeadline<T>(work: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${ms} ms`)), ms)
  })
  return Promise.race([work, late]).finally(() => clearTimeout(timer))
}

/**
 * Runs `work` now and then `ms` after each run ends. If `work` returns true, the next run starts at once.
 * @returns a function that stops the repetition and waits for the current run
 */
export function repeatEvery(
  ms: number,
  work: () => Promise<unknown>,
  onError: (error: unknown) => void,
): () => Promise<void> {
  let stopped = false
  let timer: NodeJS.Timeout | undefined
  let round: Promise<void> = Promise.resolve()
  const next = (delay: number) => {
    timer = setTimeout(() => {
      round = run()
    }, delay)
  }
  async function run(): Promise<void> {
    let again = false
    try {
      again = (await work()) === true
    } catch (error) {
      onError(error)
    }
    if (!stopped) next(again ? 0 : ms)
  }
  next(0)
  return async () => {
    stopped = true
    clearTimeout(timer)
    await round
  }
}

/** The part of `process` that a main needs, so that tests can replace it. */
export type ProcessFace = Pick<NodeJS.Process, 'on' | 'exit' | 'send' | 'connected' | 'emit'>

/** Tells the parent process, if any, that this process is ready. A parent that died in the meantime counts as a signal. */
export function announceReady(face: ProcessFace, port: number): void {
  if (!face.send) return
  if (face.connected) face.send({ type: 'ready', port })
  else face.emit('disconnect')
}

/**
 * Stops the process on SIGTERM, SIGINT or the death of its parent, within `deadlineMs`, and exits. A second SIGINT exits at once,
 * because a person is waiting. A second SIGTERM does not: process managers repeat it, and running calls would be paid twice.
 */
export function runUntilSignal(face: ProcessFace, lifecycle: Lifecycle, logger: Logger, deadlineMs: number): void {
  let isStopping = false
  const stop = (reason: string) => {
    if (isStopping) {
      if (reason === 'SIGINT') face.exit(1)
      return
    }
    isStopping = true
    logger.info({ reason }, 'stopping')
    void withDeadline(lifecycle.stop(), deadlineMs).then(
      () => face.exit(0),
      () => {
        logger.error('the process did not stop in time')
        face.exit(1)
      },
    )
  }
  face.on('SIGTERM', () => stop('SIGTERM'))
  face.on('SIGINT', () => stop('SIGINT'))
  face.on('disconnect', () => stop('disconnect'))
  // After a bug the state of the process is unknown, so it exits; other workers take its claims over.
  face.on('uncaughtException', error => {
    logger.fatal({ err: error }, 'uncaught exception')
    face.exit(1)
  })
}
