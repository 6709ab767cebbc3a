/**
 * Exponential backoff with full jitter: uniform in [0, min(max, base * 2^(tries - 1))). Source: "Exponential Backoff And
 * Jitter", AWS Architecture Blog.
 * @param tries failed calls so far, at least 1
 * @returns milliseconds
 */
export const backoff = (tries: number, options: { baseMs: number; maxMs: number; random?: () => number }): number =>
  (options.random ?? Math.random)() * Math.min(options.maxMs, options.baseMs * 2 ** (tries - 1))
