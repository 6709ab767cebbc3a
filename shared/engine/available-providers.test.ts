import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Provider } from '#shared/providers/define.ts'
import { demoWindow } from '#shared/providers/demo.ts'
import { createAvailableProviders } from './available-providers.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** Anthropic is always available; the test decides whether Ollama is, and when its look-up answers. */
function harness() {
  const lookUps: PromiseWithResolvers<string | null>[] = []
  const providers = [
    { name: 'ollama', defaultModel: () => lookUps[lookUps.push(Promise.withResolvers()) - 1]!.promise },
    { name: 'anthropic', defaultModel: async () => 'claude' },
  ] as Provider[]
  const available = createAvailableProviders(new Map(providers.map(one => [one.name, one])))
  return {
    lookUps,
    available,
    answer: async (model: string | null) => {
      lookUps.at(-1)!.resolve(model)
      await vi.advanceTimersByTimeAsync(0)
    },
  }
}
const BOTH = [
  { name: 'ollama', defaultModel: 'llama' },
  { name: 'anthropic', defaultModel: 'claude' },
]
const ONE = BOTH.slice(1)

it('the first callers wait for one look-up, and get the providers in the order of the operator', async () => {
  const { available, answer, lookUps } = harness()
  const asked = Promise.all([available(), available()])
  await answer('llama')
  expect(await asked).toEqual([BOTH, BOTH])
  expect(lookUps).toHaveLength(1)
})

it('a provider without a model is left out', async () => {
  const { available, answer } = harness()
  const asked = available()
  await answer(null)
  expect(await asked).toEqual(ONE)
})

it('known providers are returned for five seconds without a look-up', async () => {
  const { available, answer, lookUps } = harness()
  void available()
  await answer('llama')
  await vi.advanceTimersByTimeAsync(5000)
  expect(await available()).toEqual(BOTH)
  expect(lookUps).toHaveLength(1)
})

it('after five seconds one look-up runs in the background, and callers do not wait for it', async () => {
  const { available, answer, lookUps } = harness()
  void available()
  await answer('llama')
  await vi.advanceTimersByTimeAsync(5001)
  expect(await available()).toEqual(BOTH)
  await vi.advanceTimersByTimeAsync(20_000)
  expect(await available()).toEqual(BOTH)
  expect(lookUps).toHaveLength(2)
  await answer(null)
  expect(await available()).toEqual(ONE)
  await vi.advanceTimersByTimeAsync(5001)
  expect(await available()).toEqual(ONE)
  await answer('llama')
  expect(await available()).toEqual(BOTH)
  expect(lookUps).toHaveLength(3)
})

it('a first look-up that fails is repeated for the next caller', async () => {
  const { available, answer, lookUps } = harness()
  const failed = expect(available()).rejects.toThrow('broken')
  lookUps[0]!.reject(new Error('broken'))
  await failed
  const asked = available()
  await answer('llama')
  expect(await asked).toEqual(BOTH)
})

it('a later look-up that fails keeps the known providers', async () => {
  const { available, answer, lookUps } = harness()
  void available()
  await answer('llama')
  await vi.advanceTimersByTimeAsync(5001)
  expect(await available()).toEqual(BOTH)
  lookUps[1]!.reject(new Error('broken'))
  await vi.advanceTimersByTimeAsync(0)
  expect(await available()).toEqual(BOTH)
  await answer(null)
  expect(await available()).toEqual(ONE)
})

it('a provider has a chat model, an embedding model or both, and is not available without either', async () => {
  const defaultModel = async () => null
  const providers = [
    { name: 'a', defaultModel: async () => 'chat', embedding: null },
    { name: 'b', defaultModel: async () => 'chat', embedding: { defaultModel } },
    { name: 'c', defaultModel, embedding: { defaultModel: async () => 'embed' } },
    { name: 'd', defaultModel, embedding: { defaultModel } },
  ] as unknown as Provider[]
  const available = createAvailableProviders(new Map(providers.map(one => [one.name, one])))
  expect(await available()).toEqual([
    { name: 'a', defaultModel: 'chat' },
    { name: 'b', defaultModel: 'chat', embeds: { model: null } },
    { name: 'c', defaultModel: null, embeds: { model: 'embed' } },
  ])
})

describe('servers that list their models', () => {
  /** `names`: what the server lists; null: it does not answer. */
  const server = (names: () => string[] | null) =>
    new Map([
      [
        'ollama',
        {
          name: 'ollama',
          defaultModel: async () => names()?.[0] ?? null,
          embedding: null,
          listed: async () => names(),
        } as unknown as Provider,
      ],
    ])
  const lists = () => {
    const kept = new Map<string, readonly string[]>()
    return {
      read: (name: string) => kept.get(name) ?? null,
      write: (name: string, models: readonly string[]) => void kept.set(name, models),
    }
  }

  it('keep their models while they are unavailable', async () => {
    let names: string[] | null = ['llama']
    const shared = lists()
    const available = createAvailableProviders(
      server(() => names),
      { lists: shared },
    )
    expect(await available()).toEqual([{ name: 'ollama', defaultModel: 'llama', listed: ['llama'] }])
    names = null
    await vi.advanceTimersByTimeAsync(5001)
    await available()
    await vi.advanceTimersByTimeAsync(0)
    expect(await available()).toEqual([{ name: 'ollama', defaultModel: null, listed: ['llama'] }])
    // Another process that starts now knows them, too.
    expect(
      await createAvailableProviders(
        server(() => null),
        { lists: shared },
      )(),
    ).toEqual([{ name: 'ollama', defaultModel: null, listed: ['llama'] }])
  })

  it('are kept with unknown models before their first answer only if the operator named them', async () => {
    const away = server(() => null)
    expect(await createAvailableProviders(away, { lists: lists(), explicit: () => true })()).toEqual([
      { name: 'ollama', defaultModel: null, listed: null },
    ])
    expect(await createAvailableProviders(away, { lists: lists(), explicit: () => false })()).toEqual([])
    const empty = server(() => [])
    expect(await createAvailableProviders(empty, { explicit: () => true, demo: demoWindow(60_000) })()).toEqual([
      { name: 'ollama', defaultModel: null, listed: [] },
    ])
    expect(await createAvailableProviders(empty, { explicit: () => false })()).toEqual([])
  })

  it('replace the demo provider, which stands in only while no other is available, for a limited time', async () => {
    let names: string[] | null = null
    const available = createAvailableProviders(
      server(() => names),
      { demo: demoWindow(60_000) },
    )
    expect(await available()).toEqual([{ name: 'demo', defaultModel: 'echo', kinds: ['generate'] }])
    names = ['llama']
    await vi.advanceTimersByTimeAsync(5001)
    await available()
    await vi.advanceTimersByTimeAsync(0)
    expect((await available()).map(one => one.name)).toEqual(['ollama'])
    const none = createAvailableProviders(new Map(), { demo: demoWindow(60_000) })
    expect(await none()).toHaveLength(1)
    await vi.advanceTimersByTimeAsync(60_000)
    expect(await none()).toEqual([])
  })
})
