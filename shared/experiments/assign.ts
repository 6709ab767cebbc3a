import { createHash } from 'node:crypto'

/** A number in the open interval from 0 to 1, evenly spread and the same for ever, from the first 52 bits of SHA-256. */
function uniform(...parts: string[]): number {
  // JSON, so that ("a", "bc") and ("ab", "c") differ.
  const digest = createHash('sha256').update(JSON.stringify(parts)).digest()
  return (Number(digest.readBigUInt64BE() >> 12n) + 0.5) / 2 ** 52
}

/**
 * The variant that a user gets in the experiment `name`: each by its share of the weights, the same at every call.
 *
 * Weighted rendezvous hashing (Thaler & Ravishankar, IEEE/ACM ToN 6(1), 1998; the weights as in Efraimidis & Spirakis,
 * IPL 97(5), 2006): every variant draws -ln(u)/weight by user, and the least wins. More weight makes the variant's own
 * draws smaller and leaves all others as they are. So it only draws users in: none leaves it, and none goes from one of
 * the other variants to another. Likewise less weight, or a variant taken away, moves none but that variant's users.
 * @param variants with different names; weights in any unit, in any order; one of weight 0 is never chosen
 * @returns null if no variant has weight
 */
export function assign<V extends { name: string; weight: number }>(
  name: string,
  userId: string,
  variants: readonly V[],
): V | null {
  let chosen: V | null = null
  let least = Number.POSITIVE_INFINITY
  for (const variant of variants) {
    if (!(variant.weight > 0)) continue
    const draw = -Math.log(uniform(name, userId, variant.name)) / variant.weight
    if (draw >= least) continue
    least = draw
    chosen = variant
  }
  return chosen
}
