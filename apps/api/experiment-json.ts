import { Type } from 'typebox'
import type { Experiment, VariantCounts } from '#shared/db/experiments.ts'
import { variantSchema } from '#shared/experiments/definition.ts'
import { compareArms } from '#shared/experiments/statistics.ts'
import { dollarsText } from './dollars.ts'

/** Experiments on the wire. */

const moment = Type.String({ format: 'date-time' })
const nullable = Type.Union([Type.Number(), Type.Null()])
const orNull = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) => Type.Union([schema, Type.Null()])

const head = { name: Type.String(), kind: Type.String() }
const tail = { created_at: moment, updated_at: moment }
export const experimentSchema = Type.Object({ ...head, variants: Type.Array(variantSchema), ...tail })

const countedSchema = Type.Object({
  ...variantSchema.properties,
  users: Type.Integer({ description: 'Different users who got it.' }),
  tasks: Type.Integer(),
  conversions: Type.Integer({ description: 'Users of it who converted.' }),
  value: Type.String({ description: 'Sum of the values of these, exact.' }),
  rate: orNull(Type.Number({ description: 'Conversions by users; null without users.' })),
  interval: Type.Object(
    { low: Type.Number(), high: Type.Number() },
    { description: 'Where the rate lies with 95 % confidence (Wilson).' },
  ),
  cost_usd: dollarsText('Of all its tasks, but for calls under way.'),
  cost_per_conversion_usd: orNull(dollarsText('Null without conversions.')),
  latency_ms: Type.Object(
    { p50: nullable, p95: nullable },
    { description: 'From acceptance to the end, of tasks that have ended.' },
  ),
  feedback: Type.Object({ count: Type.Integer(), mean_score: nullable }),
  significance: orNull(
    Type.Object(
      {
        z: Type.Number(),
        p_value: Type.Number(),
        adjusted_p_value: Type.Number({ description: 'Corrected for the number of variants (Holm): go by this one.' }),
        approximates: Type.Boolean({ description: 'false: the numbers are too small to rely on it.' }),
      },
      { description: 'Of the difference to the first variant; null for that itself, and where nothing can be said.' },
    ),
  ),
})
export const statisticsSchema = Type.Object({ ...head, variants: Type.Array(countedSchema), ...tail })

export const experimentJson = ({ name, kind, variants, created_at, updated_at }: Experiment) => ({
  name,
  kind,
  variants,
  created_at: created_at.toISOString(),
  updated_at: updated_at.toISOString(),
})

/** What came of its variants, each held against the first. */
export function statisticsJson(experiment: Experiment, counts: VariantCounts[]) {
  const rows = experiment.variants.map(({ name }) => counts.find(one => one.variant === name) ?? nothing(name))
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

/** Of a variant that nobody got yet. */
const nothing = (variant: string): VariantCounts => ({
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
