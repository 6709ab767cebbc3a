import type { Logger } from '#shared/logger.ts'

export type Lifecycle = {
  /** Registers how to release a resource. Released last in, first out, each within its deadline. */
  defer(name: string, release: () => unknown, deadlineMs?: number): void
  /** Releases everything, once; later calls wait for the first. Never rejects. */
  stop(): Promise<void>
  readonly stopping: boolean
}

export function createLifecycle(logger: Logger): Lifecycle {
  const stack: { name: string; release: () => unknown; deadlineMs: number }[] = []
  let stopped: Promise<void> | null = null

  async function release(): Promise<void> {
    for (let one = stack.pop(); one; one = stack.pop()) {
      try {
        await withDeadline(Promise.resolve().then(one.release), one.deadlineMs)
      } catch (error) {
        logger.warn({ err: error, resource: one.name }, 'could not be released in time')
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

/** Rejects when `work` takes longer than `ms`. The work itself goes on. */
export function withDeadline<T>(work: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${ms} ms`)), ms)
  })
  return Promise.race([work, late]).finally(() => clearTimeout(timer))
}

/**
 * Repeats `work` every `ms`, never two at once; `work` returning true asks for the next round at once.
 * @returns a function that stops it and waits for the round under way
 */
export function every(
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

/** What a process's main needs of its process, so that it can be tested without one. */
export type ProcessFace = Pick<NodeJS.Process, 'on' | 'exit' | 'send' | 'connected' | 'emit'>

/** Tells the parent, if there is one, that this process serves. A parent that has died meanwhile counts as a signal. */
export function announceReady(face: ProcessFace, port: number): void {
  if (!face.send) return
  if (face.connected) face.send({ type: 'ready', port })
  else face.emit('disconnect')
}

/**
 * Runs a process: starts, and on SIGTERM, SIGINT or the death of its parent stops within `deadlineMs` and exits.
 * A second SIGINT exits at once: a person is waiting. Process managers repeat SIGTERM, and what is under way would be paid twice.
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
        logger.error('not stopped in time')
        face.exit(1)
      },
    )
  }
  face.on('SIGTERM', () => stop('SIGTERM'))
  face.on('SIGINT', () => stop('SIGINT'))
  face.on('disconnect', () => stop('disconnect'))
  // A bug that nobody caught: the state of this process is unknown, so it ends; its claims are taken over.
  face.on('uncaughtException', error => {
    logger.fatal({ err: error }, 'uncaught exception')
    face.exit(1)
  })
}
