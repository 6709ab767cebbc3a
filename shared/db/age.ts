/**
 * SQL for ages, by Postgres's clock. The clock of a process may be wrong by days, and so may the time in an id that it made.
 * Therefore `idBefore` only shortens a scan, and every age is checked against a time that Postgres wrote.
 */

/** @param days an expression */
export const daysAgo = (days: string): string => `(now() - make_interval(days => ${days}))`

/** The lowest UUIDv7 of that time. Use it together with a condition on a time that Postgres wrote. */
export const idBefore = (days: string): string =>
  `encode(substring(int8send((greatest(0, extract(epoch FROM ${daysAgo(days)})) * 1000)::bigint) FROM 3)
    || '\\x00000000000000000000'::bytea, 'hex')::uuid`
