import { type Static, Type } from 'typebox'
import type { ExperimentRow } from '#shared/db/experiments.ts'
import type { InputFault, JobKind } from '#shared/jobs/define.ts'
import { PROVIDER_NAME } from '#shared/models/providers.ts'

/** Pattern for names of experiments and variants. Names are parts of URLs. */
export const EXPERIMENT_NAME = '^[a-z0-9][a-z0-9_-]{0,63}$'

export const variantSchema = Type.Object(
  {
    name: Type.String({ pattern: EXPERIMENT_NAME }),
    weight: Type.Integer({
      minimum: 0,
      maximum: 1_000_000,
      description: 'The variant gets its share of all weights as its share of users; 0: no users.',
    }),
    engine: Type.Enum(['ai', 'rules'], {
      default: 'ai',
      description: '`rules`: the rules of the kind answer, and a model only if they have no answer.',
    }),
    provider: Type.Optional(Type.String({ pattern: PROVIDER_NAME })),
    model: Type.Optional(Type.String({ minLength: 1, maxLength: 200 })),
    prompt_version: Type.Optional(Type.String({ minLength: 1, maxLength: 50 })),
  },
  { additionalProperties: false, required: ['name', 'weight'] },
)

export type Variant = Static<typeof variantSchema>
export type Experiment = ExperimentRow<Variant>

/** Checks what the schema of variants cannot express; null: valid. */
export function variantsFault(
  job: Pick<JobKind, 'kind' | 'prompts' | 'resultWithoutVerdict'>,
  variants: readonly Variant[],
): InputFault | null {
  const names = new Set<string>()
  for (const [i, { name, engine, prompt_version }] of variants.entries()) {
    const at = (field: string, message: string) => ({ field: `/variants/${i}/${field}`, message })
    if (names.has(name)) return at('name', `is already the name of another variant: "${name}"`)
    names.add(name)
    if (prompt_version !== undefined && !Object.hasOwn(job.prompts, prompt_version))
      return at('prompt_version', `must be a version of ${job.kind}: ${Object.keys(job.prompts).join(', ')}`)
    if (engine === 'rules' && job.resultWithoutVerdict !== null)
      return at('engine', `must not be rules: the rules of ${job.kind} cannot decide alone`)
  }
  return variants.some(one => one.weight > 0) ? null : { field: '/variants', message: 'must not all have weight 0' }
}
