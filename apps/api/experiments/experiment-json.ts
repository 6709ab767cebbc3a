import { Type } from 'typebox'
import type { VariantCounts } from '#shared/db/experiments.ts'
import type { Experiment } from '#shared/experiments/definition.ts'
import { variantSchema } from '#shared/experiments/definition.ts'
import { compareArms } from '#shared/experiments/statistics.ts'
import { dollarsText } from '../http/dollars.ts'
import { nullable, timestamp } from '../http/schemas.ts'

/** Experiments in JSON. */

const numberOrNull = nullable(Type.Number())

const head = { name: Type.String(), kind: Type.String() }
const tail = { created_at: timestamp, updated_at: timestamp }
export const experimentSchema = Type.Object({ ...head, variants: Type.Array(variantSchema), ...tail })

const variantStatisticsSchema = Type.Object({
  ...variantSchema.properties,
  users: Type.Integer({ description: 'Distinct users with this variant.' }),
  tasks: Type.Integer(),
  conversions: Type.Integer({ description: 'Users of this variant that converted.' }),
  value: Type.String({ description: 'The exact sum of the conversions’ values.' }),
  rate: nullable(Type.Number({ description: 'Conversions divided by users. null without users.' })),
  interval: Type.Object(
    { low: Type.Number(), high: Type.Number() },
    { description: '95 % confidence interval of the rate (Wilson).' },
  ),
  cost_usd: dollarsText('The cost of all its tasks, without calls in flight.'),
  cost_per_conversion_usd: nullable(dollarsText('null without conversions.')),
  latency_ms: Type.Object(
    { p50: numberOrNull, p95: numberOrNull },
    { description: 'Time from acceptance to the end, for tasks that have ended.' },
  ),
  feedback: Type.Object({ count: Type.Integer(), mean_score: numberOrNull }),
  significance: nullable(
    Type.Object(
      {
        z: Type.Number(),
        p_value: Type.Number(),
        adjusted_p_value: Type.Number({ description: 'Corrected for the number of variants (Holm). Use this one.' }),
        approximates: Type.Boolean({ description: 'false: too few users for a reliable test.' }),
      },
      {
        description: 'The difference to the first variant. null for the first variant, and if there are too few data.',
      },
    ),
  ),
})
export const statisticsSchema = Type.Object({ ...head, variants: Type.Array(variantStatisticsSchema), ...tail })

export const experimentJson = ({ name, kind, variants, created_at, updated_at }: Experiment) => ({
  name,
  kind,
  variants,
  created_at: created_at.toISOString(),
  updated_at: updated_at.toISOString(),
})

/** The results of the variants, each compared with the first. */
export function statisticsJson(experiment: Experiment, counts: VariantCounts[]) {
  const rows = experiment.variants.map(({ name }) => counts.find(one => one.variant === name) ?? emptyCounts(name))
  const results = compareArms(
    rows.map(({ variant, users, conversions, cost_usd }) => ({ name: variant, users, conversions, costUsd: cost_usd })),
  )
  return {
    ...experimentJson(experiment),
    variants: experiment.variants.map((variant, i) => {
      const { users, tasks, conversions, value, cost_usd, p50_ms, p95_ms, ratings, mean_score } = rows[i]!
      const { rate, interval, costPerConversionUsd, test } = results[i]!
      return {
        ...variant,
        users,
        tasks,
        conversions,
        value,
        rate,
        interval: { low: interval[0], high: interval[1] },
        cost_usd,
        cost_per_conversion_usd: costPerConversionUsd,
        latency_ms: { p50: p50_ms, p95: p95_ms },
        feedback: { count: ratings, mean_score },
        significance: test && {
          z: test.z,
          p_value: test.pValue,
          adjusted_p_value: test.adjustedPValue,
          approximates: test.approximates,
        },
      }
    }),
  }
}

/** A variant that no user has yet. */
const emptyCounts = (variant: string): VariantCounts => ({
  variant,
  users: 0,
  tasks: 0,
  conversions: 0,
  value: '0',
  cost_usd: '0',
  p50_ms: null,
  p95_ms: null,
  ratings: 0,
  mean_score: null,
})
