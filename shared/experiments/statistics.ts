import { dollars, picodollars } from '#shared/models/picodollars.ts'

/** The 97.5% quantile of the normal distribution, for 95% intervals. */
const Z95 = 1.959963984540054

/** The users of a variant and their conversions. `costUsd`: a decimal with up to 12 places. */
export type Arm = { name: string; users: number; conversions: number; costUsd: string }

export type ArmResult = {
  name: string
  /** null: no users. */
  rate: number | null
  /** 95% interval of the rate; 0 to 1 without users. */
  interval: [low: number, high: number]
  /** null: no conversions. */
  costPerConversionUsd: string | null
  /** Test against the first arm; null for the first arm itself, without users, and if all or none converted. */
  test: { z: number; pValue: number; adjustedPValue: number; approximates: boolean } | null
}

/**
 * The 95% confidence interval of a share, valid for small numbers (Wilson, JASA 22, 1927):
 * (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n).
 */
export function wilson(conversions: number, users: number): [low: number, high: number] {
  if (users === 0) return [0, 1]
  const p = conversions / users
  const z2 = Z95 * Z95
  const middle = p + z2 / (2 * users)
  const half = Z95 * Math.sqrt((p * (1 - p)) / users + z2 / (4 * users * users))
  const scale = 1 + z2 / users
  return [Math.max(0, (middle - half) / scale), Math.min(1, (middle + half) / scale)]
}

/**
 * P(|Z| > |z|) for a standard normal Z, which is erfc(|z|/√2), by the Chebyshev fit of Press et al., Numerical Recipes
 * in C, 2nd edition, 6.2 (`erfcc`). The relative error is below 1.2e-7 everywhere, also for very small values.
 */
export function twoSidedP(z: number): number {
  const x = Math.abs(z) / Math.SQRT2
  const t = 1 / (1 + x / 2)
  const fit = [
    0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368,
    -1.26551223,
  ].reduce((sum, coefficient) => sum * t + coefficient)
  return Math.min(1, t * Math.exp(-x * x + fit))
}

type Counts = Pick<Arm, 'users' | 'conversions'>

/**
 * Tests whether two shares differ, by the two-proportion z-test with the pooled share p (Fleiss, Levin & Paik,
 * Statistical Methods for Rates and Proportions, 3rd edition, ch. 3), z = (p2 - p1) / √(p(1-p)(1/n1 + 1/n2)),
 * two-sided.
 *
 * `approximates`: at least five conversions and five users without a conversion are expected in each arm (Cochran's
 * rule). Otherwise the p-value is unreliable.
 */
export function twoProportions(control: Counts, arm: Counts) {
  const users = control.users + arm.users
  const pooled = (control.conversions + arm.conversions) / users
  const error = Math.sqrt(pooled * (1 - pooled) * (1 / control.users + 1 / arm.users))
  if (!(error > 0 && Number.isFinite(error))) return null
  const z = (arm.conversions / arm.users - control.conversions / control.users) / error
  const approximates = Math.min(control.users, arm.users) * Math.min(pooled, 1 - pooled) >= 5
  return { z, pValue: twoSidedP(z), approximates }
}

/**
 * Adjusts the p-values of several comparisons, so that the probability of any false positive stays within the level
 * (Holm, Scand. J. Statist. 6, 1979): multiplies the i-th smallest of m by m - i + 1; at most 1, and never less than
 * the previous one.
 */
export function holm(pValues: readonly number[]): number[] {
  const adjusted = pValues.map(() => 1)
  let least = 0
  for (const [rank, { p, i }] of pValues
    .map((p, i) => ({ p, i }))
    .sort((a, b) => a.p - b.p)
    .entries()) {
    least = Math.max(least, Math.min(1, p * (pValues.length - rank)))
    adjusted[i] = least
  }
  return adjusted
}

/** Dollars with 12 places, rounded half up; null: no conversions. */
export function costPerConversion(costUsd: string, conversions: number): string | null {
  if (conversions === 0) return null
  const by = BigInt(conversions)
  return dollars((2n * picodollars(costUsd) + by) / (2n * by))
}

/** Computes the results of every arm, and tests all others against the first, which is the control. */
export function compareArms(arms: readonly Arm[]): ArmResult[] {
  const [control, ...others] = arms
  if (!control) return []
  const tests = others.map(arm => twoProportions(control, arm))
  const adjusted = holm(tests.flatMap(test => (test ? [test.pValue] : [])))
  const results = tests.map(test => test && { ...test, adjustedPValue: adjusted.shift()! })
  return arms.map((arm, i) => ({
    name: arm.name,
    rate: arm.users === 0 ? null : arm.conversions / arm.users,
    interval: wilson(arm.conversions, arm.users),
    costPerConversionUsd: costPerConversion(arm.costUsd, arm.conversions),
    test: results[i - 1] ?? null,
  }))
}
