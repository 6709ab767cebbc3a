/**
 * Why a running call is stopped. `lost`: the task was cancelled, expired or taken over. `drain`: the process stops.
 * `no_beat`: the heartbeat failed for too long. `disconnected`: the client that waited has left.
 */
export type StopReason = 'lost' | 'deadline' | 'drain' | 'no_beat' | 'disconnected'

export type HeldClaim = { id: string; epoch: number; controller: AbortController }

/** The claims of this process, so that a cancellation, a lost claim or a drain can stop the call. */
export type ClaimRegistry = {
  add(claim: HeldClaim): void
  /** By epoch: the process may hold the next claim of the same task already. */
  remove(claim: { id: string; epoch: number }): void
  /** Stops one call, or all of them. Without an epoch, any claim of the task. */
  stop(reason: StopReason, claim?: { id: string; epoch?: number }): void
  list(): HeldClaim[]
  readonly size: number
}

export function createClaimRegistry(): ClaimRegistry {
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
