import { type Static, Type } from 'typebox'
import type { Complaint, JobKind } from '#shared/jobs/define.ts'
import { PROVIDER_NAMES } from '#shared/models/providers.ts'

/** What stands in a URL. */
export const NAME = '^[a-z0-9][a-z0-9_-]{0,63}$'

export const variantSchema = Type.Object(
  {
    name: Type.String({ pattern: NAME }),
    weight: Type.Integer({
      minimum: 0,
      maximum: 1_000_000,
      description: 'Its share of the users is its share of all weights; 0: nobody gets it.',
    }),
    engine: Type.Enum(['ai', 'rules'], {
      default: 'ai',
      description: '`rules`: the kind’s rules answer, and a model only where they have no answer.',
    }),
    provider: Type.Optional(Type.Enum(PROVIDER_NAMES)),
    model: Type.Optional(Type.String({ minLength: 1, maxLength: 200 })),
    prompt_version: Type.Optional(Type.String({ minLength: 1, maxLength: 50 })),
  },
  { additionalProperties: false, required: ['name', 'weight'] },
)

export type Variant = Static<typeof variantSchema>

/** What the schema cannot say of the variants of an experiment on a kind; null: fine. */
export function wrongWith(
  job: Pick<JobKind, 'kind' | 'prompts' | 'noVerdict'>,
  variants: readonly Variant[],
): Complaint | null {
  const names = new Set<string>()
  for (const [i, { name, engine, prompt_version }] of variants.entries()) {
    const at = (field: string, message: string) => ({ field: `/variants/${i}/${field}`, message })
    if (names.has(name)) return at('name', `is the name of another variant, too: "${name}"`)
    names.add(name)
    if (prompt_version !== undefined && !Object.hasOwn(job.prompts, prompt_version))
      return at('prompt_version', `is none of ${job.kind}: ${Object.keys(job.prompts).join(', ')}`)
    if (engine === 'rules' && job.noVerdict !== null)
      return at('engine', `cannot be rules: those of ${job.kind} do not judge`)
  }
  return variants.some(one => one.weight > 0) ? null : { field: '/variants', message: 'must not all have weight 0' }
}
