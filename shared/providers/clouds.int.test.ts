import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import type { StreamEvent } from '#shared/requests/answer.ts'
import { readEndpoint } from '#shared/settings/endpoint.ts'
import type { EndpointDefinition } from '#shared/settings/endpoint-schema.ts'
import { startCloudFront } from '#shared/testing/cloud-front.ts'
import { startUpstream, type Upstream } from '#shared/testing/upstream.ts'
import { createProviders } from './index.ts'

let upstream: Upstream
let front: Awaited<ReturnType<typeof startCloudFront>>
beforeAll(async () => {
  upstream = await startUpstream({ reply: 'Hello from the cloud', chunks: 3 })
  front = await startCloudFront(upstream.url)
})
afterAll(async () => {
  vi.unstubAllEnvs()
  await front.close()
  await upstream.close()
})
beforeEach(() => {
  front.calls.length = 0
})

/** A provider with one model, under a name of its own at the cloud. */
function providerOf(definition: EndpointDefinition, upstreamName: string) {
  const models = { m: { upstream: upstreamName } }
  const { config } = readEndpoint(
    'cloud',
    { ...definition, base_url: front.url, key_env: 'KEY', models },
    () => 'the-key',
  )
  return createProviders([config]).get('cloud')!
}

async function ask(provider: ReturnType<typeof providerOf>, streamed: boolean) {
  const events: StreamEvent[] = []
  const answer = await provider.call(
    { model: 'm', messages: [{ role: 'user', content: 'Hi' }], maxTokens: 10 },
    {
      signal: new AbortController().signal,
      timeoutMs: 20_000,
      ...(streamed && { onEvent: event => void events.push(event) }),
    },
  )
  return { answer, text: events.map(one => (one.type === 'text' ? one.delta : '')).join('') }
}

describe.each([
  {
    cloud: 'Azure',
    definition: { preset: 'azure', api_version: '2025-01-01' } as const,
    name: 'my-deployment',
    path: '/openai/deployments/my-deployment/chat/completions',
    streamPath: '/openai/deployments/my-deployment/chat/completions',
    header: ['api-key', 'the-key'],
  },
  {
    cloud: 'Bedrock',
    definition: { preset: 'bedrock', region: 'eu-central-1' } as const,
    name: 'eu.anthropic.claude-haiku-5-5-v1:0',
    path: '/model/eu.anthropic.claude-haiku-5-5-v1:0/invoke',
    streamPath: '/model/eu.anthropic.claude-haiku-5-5-v1:0/invoke-with-response-stream',
    header: ['authorization', 'Bearer the-key'],
  },
  {
    cloud: 'Vertex',
    definition: { preset: 'vertex', region: 'europe-west1', project: 'p' } as const,
    name: 'claude-haiku-5-5@20261001',
    path: '/projects/p/locations/europe-west1/publishers/anthropic/models/claude-haiku-5-5@20261001:rawPredict',
    streamPath:
      '/projects/p/locations/europe-west1/publishers/anthropic/models/claude-haiku-5-5@20261001:streamRawPredict',
    header: ['authorization', 'Bearer the-key'],
  },
])('$cloud', ({ definition, name, path, streamPath, header: [header, value] }) => {
  it('is called at its own path, with its own name of the model and its key', async () => {
    const { answer } = await ask(providerOf(definition, name), false)
    expect(answer).toMatchObject({ parts: [{ type: 'text', text: 'Hello from the cloud' }], finishReason: 'stop' })
    expect(answer.usage?.outputTokens).toBeGreaterThan(0)
    expect(front.calls.map(one => one.path)).toEqual([path])
    expect(front.calls[0]!.headers[header!]).toBe(value)
  })

  it('streams its answer', async () => {
    const { answer, text } = await ask(providerOf(definition, name), true)
    expect(text).toBe('Hello from the cloud')
    expect(answer.usage?.outputTokens).toBeGreaterThan(0)
    expect(front.calls.map(one => one.path)).toEqual([streamPath])
  })

  it('reports a missing model as a failure of the provider', async () => {
    upstream.script({ status: 404 })
    await expect(ask(providerOf(definition, name), false)).rejects.toMatchObject({ kind: 'unknown_model' })
  })
})

it('Azure gets the API version of the definition', async () => {
  await ask(providerOf({ preset: 'azure', api_version: '2025-01-01' }, 'd'), false)
  expect(front.calls[0]!.query).toBe('?api-version=2025-01-01')
})

it('Bedrock without a key signs requests with the credentials of the environment', async () => {
  const { config } = readEndpoint('b', { preset: 'bedrock', region: 'us-east-1', base_url: front.url }, () => undefined)
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIDTEST')
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'secret')
  vi.stubEnv('AWS_BEARER_TOKEN_BEDROCK', undefined)
  await ask(createProviders([config]).get('b')!, false)
  expect(front.calls[0]!.headers.authorization).toMatch(
    /^AWS4-HMAC-SHA256 Credential=AKIDTEST\/\d{8}\/us-east-1\/bedrock\/aws4_request/,
  )
})
