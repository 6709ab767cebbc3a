import { promises as dns, type LookupAddress, lookup } from 'node:dns'
import { isIP } from 'node:net'
import { promisify } from 'node:util'
import { createSemaphore } from '#shared/concurrency/semaphore.ts'

const lookUp = promisify(lookup)
/** Timeout in milliseconds and tries per name server. */
const OPTIONS = { timeout: 2000, tries: 2 }
/** Errors for names unknown to DNS, or without a name server. */
const NOT_THERE = new Set(['ENOTFOUND', 'ENODATA', 'ECONNREFUSED'])

export type Resolve = (host: string) => Promise<LookupAddress[]>

/**
 * Resolves names chosen by clients. The resolver of the system blocks one of few threads of the process, which calls to providers need
 * too, while a name server hangs. Names are therefore resolved by DNS directly. The system (hosts file, search domains) resolves only
 * names unknown to DNS, one at a time.
 * @throws with a `code` such as ENOTFOUND
 */
export function createResolve(): Resolve {
  const semaphore = createSemaphore({ atOnce: 1, waiting: 100, waitMs: 5000 })
  return async host => {
    const literal = isIP(host)
    if (literal) return [{ address: host, family: literal }]
    // A new resolver each time, because it reads the name servers only once, and they may change.
    const resolver = new dns.Resolver(OPTIONS)
    const answers = await Promise.allSettled([resolver.resolve4(host), resolver.resolve6(host)])
    const found = answers.flatMap((answer, index) =>
      answer.status === 'fulfilled' ? answer.value.map(address => ({ address, family: index === 0 ? 4 : 6 })) : [],
    )
    if (found.length > 0) return found
    for (const answer of answers) {
      if (answer.status === 'rejected' && !NOT_THERE.has((answer.reason as NodeJS.ErrnoException).code ?? ''))
        throw answer.reason
    }
    const known = await semaphore(() => lookUp(host, { all: true }))
    if (known) return known
    throw Object.assign(new Error('too many names are being looked up'), { code: 'EBUSY' })
  }
}
