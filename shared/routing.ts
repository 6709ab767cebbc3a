import { MODEL_FAMILIES } from './models/models.ts'

export type Candidate = { provider: string; model: string }

/** A provider that can be asked now, with the model it is asked for when nobody names one. */
export type Available = { name: string; defaultModel: string | null }

export type RouteRequest = { provider?: string | undefined; model?: string | undefined }

/**
 * Which (provider, model) to ask, best first. Pure.
 * A model may be named as `<provider>/<model>`; otherwise its family tells the provider, if one of them is available.
 * @param available in the operator's order of preference
 */
export function route(request: RouteRequest, available: Available[]): Candidate[] {
  let { provider, model } = request
  const [prefix, rest] = model?.split(/\/(.*)/s) ?? []
  if (!provider && rest && available.some(one => one.name === prefix)) {
    provider = prefix
    model = rest
  }
  if (!provider && model) {
    const family = MODEL_FAMILIES.find(one => one.pattern.test(model))
    if (family && available.some(one => one.name === family.provider)) provider = family.provider
  }
  return available
    .filter(one => provider === undefined || one.name === provider)
    .flatMap(one => {
      const wanted = model ?? one.defaultModel
      return wanted ? [{ provider: one.name, model: wanted }] : []
    })
}
