import type { Semaphore } from '#shared/concurrency/semaphore.ts'
import { SluiceError } from '#shared/errors.ts'

export const serverBusy = (retryAfter = 2) => new SluiceError('server_busy', undefined, { retryAfter })

/** Runs `work` when the semaphore has a free place. @throws SluiceError server_busy, if it has none in time */
export async function withPermit<T>(semaphore: Semaphore, work: () => Promise<T>): Promise<T> {
  const done = await semaphore(async () => ({ value: await work() }))
  if (!done) throw serverBusy()
  return done.value
}
