/** The rate limits of the fake upstream, and statistics of its traffic. See `upstream.ts`. */

/** Absent limits are not enforced. A minute is any 60 s. */
export type Limits = { requestsPerMinute?: number; tokensPerMinute?: number; concurrency?: number }

export type Traffic = {
  /** Calls beyond a limit, which were answered with 429. */
  overruns: number
  /** Most calls that arrived in any 60 s, including refused ones. */
  requestsPerMinute: number
  /** Most input and output tokens of accepted calls that arrived in any 60 s. */
  tokensPerMinute: number
  /** Most concurrent calls, including refused ones. */
  concurrency: number
}

type Entry = { at: number; tokens: number; refused: boolean; open: boolean; counted: boolean }
export type Visit = {
  /** Wait of the caller before its next try; null: the call is accepted. */
  retryAfterMs: number | null
  /** Charges the tokens of the call. @returns the wait if they exceed the limit; null: accepted */
  spend(tokens: number, now: number): number | null
  /** The call ends: it no longer counts as concurrent. */
  leave(): void
}

const MINUTE = 60_000
/** Fixed, because the end of an open call is unknown. */
const CONCURRENCY_WAIT_MS = 1000

/** `now` is milliseconds of any clock that does not go back. */
export function createLimits() {
  /** In order of arrival; entries before `first` have left the window. */
  const entries: Entry[] = []
  let limits: Limits = {}
  let first = 0
  /** Calls in the window. Refused calls do not count, otherwise clients that retry would never be accepted. */
  let requests = 0
  let tokens = 0
  let open = 0
  let openAccepted = 0
  let mostOpen = 0
  let overruns = 0

  const uncount = (entry: Entry) => {
    if (!entry.counted) return
    entry.counted = false
    requests--
    tokens -= entry.tokens
  }
  const slide = (now: number) => {
    for (; first < entries.length && entries[first]!.at <= now - MINUTE; first++) uncount(entries[first]!)
  }
  /** Milliseconds until at least this many calls or tokens have left the window. */
  const until = (now: number, gone: { requests?: number; tokens?: number }) => {
    let { requests: calls = 0, tokens: cost = 0 } = gone
    for (let index = first; index < entries.length; index++) {
      const entry = entries[index]!
      if (!entry.counted) continue
      calls--
      cost -= entry.tokens
      if (calls <= 0 && cost <= 0) return entry.at + MINUTE - now
    }
    return MINUTE
  }

  function arrive(now: number): Visit {
    slide(now)
    const entry: Entry = { at: now, tokens: 0, refused: false, open: true, counted: false }
    entries.push(entry)
    mostOpen = Math.max(mostOpen, ++open)
    const refuse = (ms: number) => {
      uncount(entry)
      if (entry.open) openAccepted--
      entry.refused = true
      overruns++
      return ms
    }
    const { requestsPerMinute = Infinity, concurrency = Infinity } = limits
    const tooMany = requests + 1 - requestsPerMinute
    const tooManyAtOnce = openAccepted >= concurrency
    entry.counted = true
    requests++
    openAccepted++
    const waitMs = Math.max(
      tooMany > 0 ? until(now, { requests: tooMany }) : 0,
      tooManyAtOnce ? CONCURRENCY_WAIT_MS : 0,
    )
    return {
      retryAfterMs: waitMs > 0 ? refuse(waitMs) : null,
      spend(cost, later) {
        slide(later)
        const { tokensPerMinute = Infinity } = limits
        const tooMuch = tokens + cost - tokensPerMinute
        if (tooMuch > 0) return refuse(cost > tokensPerMinute ? MINUTE : until(later, { tokens: tooMuch }))
        entry.tokens = cost
        if (entry.counted) tokens += cost
        return null
      },
      leave() {
        if (!entry.open) return
        entry.open = false
        open--
        if (!entry.refused) openAccepted--
      },
    }
  }

  return {
    arrive,
    limit: (next: Limits | null) => {
      limits = next ?? {}
    },
    traffic: (): Traffic => ({
      overruns,
      requestsPerMinute: most(entries, () => 1),
      tokensPerMinute: most(entries, entry => entry.tokens),
      concurrency: mostOpen,
    }),
    /** Open calls stay open. */
    reset: () => {
      for (const entry of entries) uncount(entry)
      limits = {}
      entries.length = first = overruns = 0
      mostOpen = open
    },
  }
}

/** The greatest sum within any 60 s. */
function most(entries: Entry[], of: (entry: Entry) => number): number {
  let sum = 0
  let greatest = 0
  let first = 0
  for (const entry of entries) {
    for (; entries[first]!.at <= entry.at - MINUTE; first++) sum -= of(entries[first]!)
    sum += of(entry)
    greatest = Math.max(greatest, sum)
  }
  return greatest
}
