import type { HostHeadroom } from '#shared/db/webhooks/lease.ts'
import type { SendOutcome } from './send.ts'

/** Concurrent deliveries per host and process. */
const PER_HOST = 8
/** While the host does not answer. */
const PER_HANGING_HOST = 2
/** While the host answers fast and so blocks no other host. */
const PER_QUICK_HOST = 32
const QUICK_SECONDS = 0.1
/** Hosts that are remembered. The lease statement compares each with every due delivery. */
const MAX_HOSTS = 200

type Host = { active: number; hangs: boolean; seconds: number }

export type HostConcurrency = {
  /** The room of each known host, and of any other host (`perHost`). */
  room(): { hosts: HostHeadroom[]; perHost: number }
  /** @returns a function to call with the outcome */
  begin(host: string): (sent: SendOutcome) => void
}

/** Limits deliveries per host, so that a host that hangs cannot block the others. */
export function createHostConcurrency(now: () => number = () => performance.now()): HostConcurrency {
  const hosts = new Map<string, Host>()

  function touch(name: string): Host {
    const host = hosts.get(name) ?? { active: 0, hangs: false, seconds: 1 }
    // Moves the host to the end: the first ones are dropped first.
    hosts.delete(name)
    hosts.set(name, host)
    if (hosts.size > MAX_HOSTS) {
      for (const [other, { active }] of hosts) {
        if (active > 0) continue
        hosts.delete(other)
        break
      }
    }
    return host
  }

  return {
    room: () => ({
      perHost: PER_HOST,
      hosts: Array.from(hosts, ([host, { active, hangs, seconds }]) => ({
        host,
        room: Math.max(0, (hangs ? PER_HANGING_HOST : seconds < QUICK_SECONDS ? PER_QUICK_HOST : PER_HOST) - active),
        seconds,
      })),
    }),
    begin(name) {
      const host = touch(name)
      const begun = now()
      host.active++
      return sent => {
        host.active--
        host.seconds = (now() - begun) / 1000
        if (sent.kind !== 'stopped') host.hangs = sent.kind === 'timeout'
      }
    },
  }
}
