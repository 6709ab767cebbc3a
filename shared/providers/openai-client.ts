import OpenAI, { AzureOpenAI } from 'openai'
import type { ProviderConfig } from '#shared/settings/providers.ts'

/** The oldest stable version that serves everything Sluice sends. */
const AZURE_API_VERSION = '2024-10-21'

/** The client for OpenAI's own API, for Azure and for compatible servers. */
export function createOpenAiClient(config: ProviderConfig, fetch: typeof globalThis.fetch): OpenAI {
  const options = {
    // The SDK requires a key; servers such as LM Studio accept any.
    apiKey: config.apiKey ?? 'none',
    adminAPIKey: null,
    // Otherwise the SDK would read OPENAI_* and send it to other providers.
    ...(config.name === 'openai' ? {} : { organization: null, project: null }),
    maxRetries: 0,
    fetch,
    // The SDK would log answers that it cannot parse. They become a CallFailure.
    logLevel: 'off' as const,
  }
  if (config.adapter !== 'azure-openai') return new OpenAI({ ...options, baseURL: config.baseUrl })
  // It puts the deployment, which is the model of the request, into the path.
  return new AzureOpenAI({
    ...options,
    baseURL: `${config.baseUrl}/openai`,
    apiVersion: config.apiVersion ?? AZURE_API_VERSION,
  })
}
