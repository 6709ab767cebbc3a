import { SluiceError } from '#shared/errors.ts'
import type { Lanes } from '#shared/lanes.ts'

/** Too much of that sort is asked for at once: the client should ask again in a moment. */
export const busy = () => new SluiceError('server_busy', undefined, { retryAfter: 2 })

/** What `work` gives, when its turn has come. @throws SluiceError server_busy, if that does not come */
export async function inTurn<T>(lanes: Lanes, work: () => Promise<T>): Promise<T> {
  const done = await lanes(async () => ({ value: await work() }))
  if (!done) throw busy()
  return done.value
}
