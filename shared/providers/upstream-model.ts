import { declaredCapabilities } from '#shared/models/capabilities.ts'
import type { ProviderConfig } from '#shared/settings/providers.ts'

/** The name by which an endpoint knows a model, such as an Azure deployment. */
export const upstreamModel = ({ models }: Pick<ProviderConfig, 'models'>, model: string): string =>
  declaredCapabilities(models, model).upstream ?? model
