/** Random numbers that a seed makes repeatable. */
export type Random = ReturnType<typeof createRandom>

/** The same `parts` give the same numbers, so that the draws of one part of a run do not shift those of another. */
export function createRandom(...parts: (string | number)[]) {
  let state = hashOf(parts.join(' '))
  /** mulberry32: small, fast and uniform enough. In [0, 1). */
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  const between = (least: number, most: number): number => least + next() * (most - least)
  return {
    next,
    between,
    /** An integer, both ends included. */
    int: (least: number, most: number): number => Math.floor(between(least, most + 1)),
    chance: (probability: number): boolean => next() < probability,
    pick: <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)]!,
    /** One of the names, in proportion to their weights. */
    weighted<Name extends string>(weights: Record<Name, number>): Name {
      const entries = Object.entries(weights) as [Name, number][]
      let left = next() * entries.reduce((sum, [, weight]) => sum + weight, 0)
      for (const [name, weight] of entries) {
        left -= weight
        if (left < 0) return name
      }
      return entries.at(-1)![0]
    },
    shuffled<T>(list: readonly T[]): T[] {
      const left = [...list]
      const shuffled: T[] = []
      while (left.length > 0) shuffled.push(...left.splice(Math.floor(next() * left.length), 1))
      return shuffled
    },
  }
}

/** FNV-1a. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
  return hash
}
