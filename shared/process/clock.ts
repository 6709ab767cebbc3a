/** Offset of `performance.now()`. Until Postgres has been read, it follows the clock of this machine. */
let base = Date.now() - performance.now()

/**
 * Milliseconds since 1970 on the clock of Postgres. Clocks of machines may differ by days, so everything that compares times uses
 * this function, or `now()` in SQL. `performance.now()` measures durations.
 */
export const now = (): number => base + performance.now()

/** Sets the clock. @param ms milliseconds since 1970, now @returns how far the clock of this machine is ahead, milliseconds */
export function setClock(ms: number): number {
  base = ms - performance.now()
  return Date.now() - ms
}
