/**
 * The advisory locks of whole jobs, one key each. The order is part of every release: an older version that runs beside this
 * one must mean the same by a key.
 */
const NAMES = ['migrate', 'sweep', 'dispatch', 'limits', 'files'] as const
const FIRST = 7_205_418_366

export const LOCKS = Object.fromEntries(NAMES.map((name, index) => [name, FIRST + index])) as Record<
  (typeof NAMES)[number],
  number
>
