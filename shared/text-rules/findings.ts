/** A range of a text: from `start` to `end`, exclusive (UTF-16 units, as in `slice`). */
export type Finding<T extends string = string> = { type: T; start: number; end: number }

/**
 * Resolves overlaps: keeps the finding whose type comes first in `order` (the more specific), then the longer one.
 * @returns findings from left to right, without overlaps
 */
export function withoutOverlaps<F extends Finding>(findings: readonly F[], order: readonly F['type'][]): F[] {
  let kept: F[] = []
  for (const type of order) {
    const ofType = findings.filter(one => one.type === type).sort(byPlace)
    kept = merge(kept, ofType)
  }
  return kept
}

const byPlace = (a: Finding, b: Finding) => a.start - b.start || b.end - a.end

/**
 * Adds the findings that do not overlap `kept`, in one pass, because a text may contain a hundred thousand findings.
 */
function merge<F extends Finding>(kept: readonly F[], others: readonly F[]): F[] {
  const merged: F[] = []
  let next = 0
  let end = 0
  for (const one of others) {
    for (; next < kept.length && kept[next]!.start <= one.start; next++) merged.push(kept[next]!)
    end = merged.at(-1)?.end ?? 0
    if (one.start >= end && one.end <= (kept[next]?.start ?? Number.POSITIVE_INFINITY)) merged.push(one)
  }
  return merged.concat(kept.slice(next))
}
