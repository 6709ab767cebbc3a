import { canonicalModel } from '#shared/models/canonical-model.ts'
import type { Target } from './types.ts'

/** Where a model's calls are counted, by whatever name the model is called: all its names share what it may be asked. */
export const targetOf = ({ provider, model }: { provider: string; model: string }): Target => ({
  provider,
  model: canonicalModel(provider, model),
})
