import Anthropic from '@anthropic-ai/sdk'
import type { ProviderConfig } from '#shared/settings/providers.ts'

/** The part of Anthropic's SDK that its own API, Amazon Bedrock and Google Vertex have in common. */
export type AnthropicClient = {
  messages(): Promise<Pick<Anthropic.Messages, 'create'>>
  /** null: the service lists no models. */
  models: Anthropic.Models | null
}

/** The SDK would log answers that it cannot parse. They become a CallFailure. */
const SDK = { maxRetries: 0, logLevel: 'off' } as const

export function createAnthropicClient(config: ProviderConfig, fetch: typeof globalThis.fetch): AnthropicClient {
  if (config.adapter === 'bedrock') return { messages: once(() => bedrock(config, fetch)), models: null }
  if (config.adapter === 'vertex') return { messages: once(() => vertex(config, fetch)), models: null }
  const client = new Anthropic({
    ...SDK,
    baseURL: config.baseUrl,
    // The SDK requires a key and would read the environment. Servers without keys accept any value.
    apiKey: config.bearer ? null : (config.apiKey ?? 'none'),
    authToken: config.bearer ? config.apiKey : null,
    fetch,
    openTelemetry: false,
  })
  return { messages: async () => client.messages, models: client.models }
}

/** Without a key, requests are signed with the credentials of the environment. Loaded on demand: the AWS SDK is large. */
async function bedrock({ apiKey, baseUrl, region }: ProviderConfig, fetch: typeof globalThis.fetch) {
  const { AnthropicBedrock } = await import('@anthropic-ai/bedrock-sdk')
  const where = { awsRegion: region!, ...(baseUrl && { baseURL: baseUrl }) }
  return new AnthropicBedrock({ ...SDK, ...where, apiKey, fetch, openTelemetry: false }).messages
}

/** Without a token, Google's application default credentials apply. */
async function vertex({ apiKey, baseUrl, region, project }: ProviderConfig, fetch: typeof globalThis.fetch) {
  const { AnthropicVertex } = await import('@anthropic-ai/vertex-sdk')
  const where = { region: region!, projectId: project!, ...(baseUrl && { baseURL: baseUrl }) }
  return new AnthropicVertex({
    ...SDK,
    ...where,
    ...(apiKey !== null && { authClient: await withToken(apiKey) }),
    fetch,
    openTelemetry: false,
  }).messages
}

async function withToken(access_token: string) {
  const { OAuth2Client } = await import('google-auth-library')
  const client = new OAuth2Client()
  client.setCredentials({ access_token })
  return client
}

/** A failed load is repeated by the next call. */
function once<T>(load: () => Promise<T>): () => Promise<T> {
  let loaded: Promise<T> | null = null
  return () => {
    loaded ??= load().catch(error => {
      loaded = null
      throw error
    })
    return loaded
  }
}
