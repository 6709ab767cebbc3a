import { isUnavailable } from './pool.ts'

const FIRST_MS = 100
const MAX_MS = 2000

/**
 * Repeats `work` while Postgres is unavailable, without limit: another worker takes over the claims if the process dies. Only for
 * statements that may be repeated.
 */
export async function retryUnavailable<T>(work: () => Promise<T>): Promise<T> {
  for (let wait = FIRST_MS; ; wait = Math.min(wait * 2, MAX_MS)) {
    try {
      return await work()
    } catch (error) {
      if (!isUnavailable(error)) throw error
      await new Promise(resolve => setTimeout(resolve, wait))
    }
  }
}
