import { promises as dns, type LookupAddress, lookup } from 'node:dns'
import { isIP } from 'node:net'
import { promisify } from 'node:util'
import { createLanes } from '#shared/lanes.ts'

const lookUp = promisify(lookup)
/** Time for one question to one name server, and how often it is asked. */
const ASK = { timeout: 2000, tries: 2 }
/** What says at once that DNS does not know, or that there is none. */
const NOT_THERE = new Set(['ENOTFOUND', 'ENODATA', 'ECONNREFUSED'])

export type Resolve = (host: string) => Promise<LookupAddress[]>

/**
 * Finds the addresses of names that strangers chose. The system's own look-up blocks one of the few threads that the whole
 * process has for it, calls to providers included, for as long as a name server hangs: so DNS is asked directly, and the
 * system (its hosts file, its search domains) only for what DNS does not know, one name at a time.
 * @throws with a `code` such as ENOTFOUND
 */
export function createResolve(): Resolve {
  const lane = createLanes({ atOnce: 1, waiting: 100, waitMs: 5000 })
  return async host => {
    const literal = isIP(host)
    if (literal) return [{ address: host, family: literal }]
    // Each time: it reads once which servers to ask, and a machine may change its network.
    const resolver = new dns.Resolver(ASK)
    const answers = await Promise.allSettled([resolver.resolve4(host), resolver.resolve6(host)])
    const found = answers.flatMap((answer, index) =>
      answer.status === 'fulfilled' ? answer.value.map(address => ({ address, family: index === 0 ? 4 : 6 })) : [],
    )
    if (found.length > 0) return found
    for (const answer of answers) {
      if (answer.status === 'rejected' && !NOT_THERE.has((answer.reason as NodeJS.ErrnoException).code ?? ''))
        throw answer.reason
    }
    const known = await lane(() => lookUp(host, { all: true }))
    if (known) return known
    throw Object.assign(new Error('too many names are being looked up'), { code: 'EBUSY' })
  }
}
