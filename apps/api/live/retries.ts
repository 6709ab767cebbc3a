import { createHash } from 'node:crypto'
import type { Redis } from '#shared/redis/connect.ts'

/** The SDKs repeat a request within seconds. A later equal request is a new one. */
const KEEP_SECONDS = 600

/**
 * Finds the task of a request that an SDK repeats after a lost connection, a timeout or an error of ours. The SDKs send no
 * idempotency key; they count their retries in a header.
 */
export type Retries = {
  /** Remembers the task of a request. Never fails: without Redis a retry is a new request. */
  remember(request: LiveFingerprint, taskId: string): void
  /** @returns the task of an equal request of the same key; null: none is known */
  find(request: LiveFingerprint): Promise<string | null>
}

export type LiveFingerprint = { apiKeyId: string; path: string; body: Record<string, unknown> }

const hashOf = ({ apiKeyId, path, body }: LiveFingerprint): string =>
  createHash('sha256')
    .update(`${apiKeyId}\n${path}\n${JSON.stringify(body)}`)
    .digest('base64url')

export function createRetries({ redis, prefix }: { redis: Redis; prefix: string }): Retries {
  const keyOf = (request: LiveFingerprint) => `${prefix}:live:${hashOf(request)}`
  return {
    remember(request, taskId) {
      redis.set(keyOf(request), taskId, 'EX', KEEP_SECONDS).catch(() => undefined)
    },
    find: request => redis.get(keyOf(request)).catch(() => null),
  }
}
