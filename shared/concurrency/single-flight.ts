/** Shares one computation among all callers while it runs and for `freshMs` after it, so that its cost does not grow with their number. */
export function sharedAnswer<T>(
  compute: () => Promise<T>,
  freshMs = 1000,
  now: () => number = () => performance.now(),
): () => Promise<T> {
  let last: { answer: Promise<T>; until: number } | null = null
  return () => {
    if (last && now() < last.until) return last.answer
    const pending = { answer: compute(), until: Number.POSITIVE_INFINITY }
    last = pending
    const done = () => {
      pending.until = now() + freshMs
    }
    pending.answer.then(done, done)
    return pending.answer
  }
}

/** Shares one run of `work` among all callers while it runs, so that callers that gave up waiting do not pile up runs. */
export function singleFlight<T>(work: () => Promise<T>): () => Promise<T> {
  let running: Promise<T> | null = null
  return () => {
    running ??= work().finally(() => {
      running = null
    })
    return running
  }
}
