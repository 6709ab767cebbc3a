import { isUnavailable } from './pool.ts'

const FIRST_MS = 100
const MOST_MS = 2000

/**
 * Repeats `work` while Postgres cannot be reached. Only for statements that may be repeated. It ends with the outage,
 * or with the process, whose claims are then taken over.
 */
export async function persist<T>(work: () => Promise<T>): Promise<T> {
  for (let wait = FIRST_MS; ; wait = Math.min(wait * 2, MOST_MS)) {
    try {
      return await work()
    } catch (error) {
      if (!isUnavailable(error)) throw error
      await new Promise(resolve => setTimeout(resolve, wait))
    }
  }
}
