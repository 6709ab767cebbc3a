/**
 * Advisory locks for jobs that one process does at a time. They use the two-number space, which no hash of client data can reach.
 * Never change the order: versions that run side by side must agree on the numbers.
 */
const NAMES = ['migrate', 'sweep', 'dispatch', 'limits', 'files', 'providers'] as const
type LockName = (typeof NAMES)[number]

/** The first number of these locks: `Sluc` in ASCII. */
export const LOCK_NAMESPACE = 0x536c7563

export const LOCKS = Object.fromEntries(NAMES.map((name, index) => [name, index + 1])) as Record<LockName, number>

/**
 * Earlier versions locked one 64-bit number for the same job. Jobs that must not run twice take both locks, this one first, while
 * such a version may run beside this one.
 */
export const LEGACY_LOCKS = { migrate: 7_205_418_366, limits: 7_205_418_369 } as const

/**
 * SQL: the lock of an Idempotency-Key, in the 64-bit space. Uses SHA-256, because a client that computes a collision could block the
 * keys of others: `hashtextextended` is inverted in milliseconds.
 * @param apiKeyId an expression of type uuid
 */
export const idempotencyLock = (apiKeyId: string, key: string): string =>
  `('x' || encode(substring(sha256(convert_to(${apiKeyId}::text || ${key}, 'UTF8')) FROM 1 FOR 8), 'hex'))::bit(64)::bigint`
