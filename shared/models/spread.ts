/** A candidate for a call. Without a weight in its whole group, the operator's order decides. */
type Weighted = { group: string; weight?: number | undefined }

/**
 * Orders the candidates of each group at random, so that each comes first in proportion to its weight; those of weight 0 come last.
 * Groups keep their positions. Source: weighted random sampling without replacement, Efraimidis and Spirakis, 2006.
 * @param random from 0 to 1
 */
export function spread<T extends Weighted>(candidates: readonly T[], random: () => number): T[] {
  const groups = Map.groupBy(candidates.keys(), i => candidates[i]!.group)
  const ordered = candidates.slice()
  for (const positions of groups.values()) {
    const members = positions.map(i => candidates[i]!)
    if (members.length < 2 || members.every(one => one.weight === undefined)) continue
    const drawn = members
      .map(one => ({ one, at: -Math.log(1 - random()) / (one.weight ?? 1) }))
      .toSorted((a, b) => (a.at === b.at ? 0 : a.at - b.at))
    for (const [n, position] of positions.entries()) ordered[position] = drawn[n]!.one
  }
  return ordered
}
