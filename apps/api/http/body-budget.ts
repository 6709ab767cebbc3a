import { SluiceError } from '#shared/errors.ts'

const RETRY_AFTER_SECONDS = 2

/** Bytes of the request bodies that a process is receiving or handling. */
export type BodyBudget = {
  /** Opens an account for one body. `release` returns its bytes; repeating it has no effect. */
  open(keyId: string): { add(bytes: number): void; release(): void }
  readonly held: number
}

/**
 * Limits the memory of request bodies per process, and per key to half of that, so that one key cannot block the others.
 * `add` throws SluiceError server_busy (limit of the process) or rate_limited (limit of the key).
 */
export function createBodyBudget(maxBytes: number): BodyBudget {
  const maxPerKey = maxBytes / 2
  const byKey = new Map<string, number>()
  let held = 0
  const change = (keyId: string, bytes: number) => {
    held += bytes
    const keyHeld = (byKey.get(keyId) ?? 0) + bytes
    if (keyHeld === 0) byKey.delete(keyId)
    else byKey.set(keyId, keyHeld)
  }
  return {
    open(keyId) {
      let own = 0
      let isOpen = true
      return {
        add(bytes) {
          if (!isOpen) return
          if ((byKey.get(keyId) ?? 0) + bytes > maxPerKey) throw keyIsFull(maxPerKey)
          if (held + bytes > maxBytes) throw processIsFull()
          own += bytes
          change(keyId, bytes)
        },
        release() {
          if (!isOpen) return
          isOpen = false
          change(keyId, -own)
        },
      }
    },
    get held() {
      return held
    },
  }
}

const keyIsFull = (maxBytes: number) =>
  new SluiceError('rate_limited', 'The open requests of this key have too many bytes in total.', {
    context: { limit_bytes: maxBytes },
    retryAfter: RETRY_AFTER_SECONDS,
  })

const processIsFull = () =>
  new SluiceError('server_busy', 'The server has no memory for another request body.', {
    retryAfter: RETRY_AFTER_SECONDS,
  })
