import { randomFillSync } from 'node:crypto'
import { v7 } from 'uuid'
import { now as clockNow } from './process/clock.ts'

// Random bytes by the 4 KB: asking for 16 at a time is nine tenths of the cost of an id.
const pool = new Uint8Array(4096)
let used = pool.length
function rng(): Uint8Array {
  if (used === pool.length) {
    randomFillSync(pool)
    used = 0
  }
  used += 16
  return pool.subarray(used - 16, used)
}

let msecs = 0
let seq = 0

/**
 * A new UUIDv7: time-ordered, so that indexes stay local and lists are in time order. Ids of one process come in the
 * order in which they were made, also within a millisecond and when the clock steps back (RFC 9562, 6.2, method 1).
 */
export function newId(): string {
  const now = Math.floor(clockNow())
  if (now > msecs) {
    msecs = now
    // Half the range is left to count in.
    seq = new DataView(rng().slice().buffer).getUint32(0) >>> 1
  } else if (++seq > 0xffffffff) {
    msecs++
    seq = 0
  }
  return v7({ rng, msecs, seq })
}

/** OpenAI's clients know files as `file-…` and chat completions as `chatcmpl-…`, and everything else with an underscore. */
const opening = (prefix: string) => (prefix === 'file' || prefix === 'chatcmpl' ? `${prefix}-` : `${prefix}_`)

/** `0190…-…` -> `task_0190…` (32 hex digits); files are `file-0190…`. */
export const toWire = (prefix: string, id: string): string => opening(prefix) + id.replaceAll('-', '')

/** The inverse of `toWire`; null if it is not such an id. */
export function fromWire(prefix: string, wire: string): string | null {
  const hex = wire.startsWith(opening(prefix)) ? wire.slice(prefix.length + 1) : ''
  if (!/^[0-9a-f]{32}$/.test(hex)) return null
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}
