/** Why a running call is stopped: cancelled or expired or taken over; out of time; handed back; no heartbeat. */
export type StopReason = 'lost' | 'deadline' | 'drain' | 'no_beat'

export type HeldClaim = { id: string; epoch: number; controller: AbortController }

/** The claims that this process holds, so that a cancel, a lost claim or a drain finds its call. */
export type Held = {
  add(claim: HeldClaim): void
  /** With its epoch: by then the task may be held again, under the next one. */
  remove(claim: { id: string; epoch: number }): void
  /** Stops one call, or all. Without an epoch: whichever is held. */
  stop(reason: StopReason, claim?: { id: string; epoch?: number }): void
  list(): HeldClaim[]
  readonly size: number
}

export function createHeld(): Held {
  const claims = new Map<string, HeldClaim>()
  return {
    add: claim => void claims.set(claim.id, claim),
    remove({ id, epoch }) {
      if (claims.get(id)?.epoch === epoch) claims.delete(id)
    },
    stop(reason, claim) {
      const stopped = claim === undefined ? [...claims.values()] : [claims.get(claim.id)]
      for (const one of stopped) {
        if (claim?.epoch === undefined || one?.epoch === claim.epoch) one?.controller.abort(reason)
      }
    },
    list: () => [...claims.values()],
    get size() {
      return claims.size
    },
  }
}
