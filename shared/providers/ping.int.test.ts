import { expect, it, onTestFinished } from 'vitest'
import type { ProviderConfig } from '#shared/config.ts'
import { startUpstream } from '#shared/testing/upstream.ts'
import { createProviders } from './index.ts'

const SUBJECTS: [name: string, adapter: ProviderConfig['adapter'], path: string][] = [
  ['anthropic', 'anthropic', ''],
  ['openai', 'openai', '/v1'],
  ['deepseek', 'openai', ''],
  ['google', 'openai', '/v1beta/openai/'],
]

it.each(SUBJECTS)(
  '%s: a ping is answered by a provider that is up, makes no call, and fails otherwise',
  async (name, adapter, path) => {
    const upstream = await startUpstream()
    onTestFinished(() => upstream.close())
    const config = { name, adapter, baseUrl: `${upstream.url}${path}`, apiKey: 'a-key', model: null, explicit: true }
    const provider = createProviders([config]).get(name)!
    const ping = () => provider.ping(AbortSignal.timeout(20_000))
    await expect(ping()).rejects.toThrow()
    upstream.answerPings(true)
    await ping()
    expect([upstream.pings(), upstream.count()]).toEqual([2, 0])
    await upstream.close()
    await expect(ping()).rejects.toThrow()
  },
)

it('ollama: a ping lists its models', async () => {
  const upstream = await startUpstream()
  const config = {
    name: 'ollama',
    adapter: 'ollama' as const,
    baseUrl: upstream.url,
    apiKey: null,
    model: null,
    explicit: true,
  }
  const provider = createProviders([config as ProviderConfig]).get('ollama')!
  await provider.ping(AbortSignal.timeout(20_000))
  await upstream.close()
  await expect(provider.ping(AbortSignal.timeout(20_000))).rejects.toThrow()
})
