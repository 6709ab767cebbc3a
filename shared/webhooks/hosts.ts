import type { HostRoom } from '#shared/db/webhooks.ts'
import type { Sent } from './send.ts'

/** Deliveries under way at one host, from one process. */
const PER_HOST = 8
/** While it does not answer. */
const PER_HANGING_HOST = 2
/** While it answers at once, and thus takes nobody's place. */
const PER_QUICK_HOST = 32
const QUICK_SECONDS = 0.1
/** Each is compared with every delivery that is looked at. */
const REMEMBERED = 200

type Host = { active: number; hangs: boolean; seconds: number }

export type Hosts = {
  /** What there is room for at the hosts that are known, and at any other. */
  room(): { hosts: HostRoom[]; perHost: number }
  /** @returns to be called with what came of it */
  begin(host: string): (sent: Sent) => void
}

/** Keeps one host that hangs from taking the place of all others. */
export function createHosts(now: () => number = () => performance.now()): Hosts {
  const hosts = new Map<string, Host>()

  function touch(name: string): Host {
    const host = hosts.get(name) ?? { active: 0, hangs: false, seconds: 1 }
    // Last used, last dropped.
    hosts.delete(name)
    hosts.set(name, host)
    if (hosts.size > REMEMBERED) {
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
