import { createHash } from 'node:crypto'

/** A uniformly distributed number between 0 and 1, exclusive, from the first 52 bits of SHA-256. The same for ever. */
function uniform(...parts: string[]): number {
  // JSON, so that ("a", "bc") and ("ab", "c") differ.
  const digest = createHash('sha256').update(JSON.stringify(parts)).digest()
  return (Number(digest.readBigUInt64BE() >> 12n) + 0.5) / 2 ** 52
}

/**
 * The variant of a user in the experiment `name`: random by weight, but the same at every call.
 *
 * Weighted rendezvous hashing (Thaler & Ravishankar, IEEE/ACM ToN 6(1), 1998; the weights as in Efraimidis & Spirakis,
 * IPL 97(5), 2006): every variant draws -ln(u)/weight for the user, and the lowest draw wins. A higher weight lowers
 * only the variant's own draws: users move to it, and none move between the other variants. A lower weight, or removing
 * the variant, moves only its own users.
 * @param variants with unique names, in any order; weights in any unit; weight 0 is never chosen
 * @returns null: all weights are 0
 */
export function assignVariant<V extends { name: string; weight: number }>(
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
