import { canonicalModel } from '#shared/models/canonical-model.ts'

/** One model of one provider. The gate knows each by the name that `canonicalTarget` gives it. */
export type Target = { provider: string; model: string }

export const targetName = ({ provider, model }: Target): string => `${provider}/${model}`

export function parseTargetName(name: string): Target {
  const [provider, model] = name.split(/\/(.*)/s) as [string, string]
  return { provider, model }
}

/** The target that counts a model's calls. All names of a model share its limits. */
export const canonicalTarget = ({ provider, model }: Target): Target => ({
  provider,
  model: canonicalModel(provider, model),
})
