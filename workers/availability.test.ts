import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { createAvailability } from './availability.ts'
import type { Provider } from './providers/define.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** Anthropic is always there; whether Ollama is, and when its look-up answers, the test says. */
function harness() {
  const lookUps: PromiseWithResolvers<string | null>[] = []
  const providers = [
    { name: 'ollama', defaultModel: () => lookUps[lookUps.push(Promise.withResolvers()) - 1]!.promise },
    { name: 'anthropic', defaultModel: async () => 'claude' },
  ] as Provider[]
  const available = createAvailability(new Map(providers.map(one => [one.name, one])))
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

it('whoever asks first waits for one look-up, and gets the providers in the operator’s order', async () => {
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

it('what is known is given for five seconds without a look-up', async () => {
  const { available, answer, lookUps } = harness()
  void available()
  await answer('llama')
  await vi.advanceTimersByTimeAsync(5000)
  expect(await available()).toEqual(BOTH)
  expect(lookUps).toHaveLength(1)
})

it('after that it is looked up again, once, and nobody waits for it', async () => {
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

it('a first look-up that fails is made again by who asks next', async () => {
  const { available, answer, lookUps } = harness()
  const failed = expect(available()).rejects.toThrow('broken')
  lookUps[0]!.reject(new Error('broken'))
  await failed
  const asked = available()
  await answer('llama')
  expect(await asked).toEqual(BOTH)
})

it('a later one that fails leaves what was known, and harms nobody', async () => {
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

it('says of each whether it makes vectors, and has one that does nothing else', async () => {
  const defaultModel = async () => null
  const providers = [
    { name: 'a', defaultModel: async () => 'chat', embedding: null },
    { name: 'b', defaultModel: async () => 'chat', embedding: { defaultModel } },
    { name: 'c', defaultModel, embedding: { defaultModel: async () => 'embed' } },
    { name: 'd', defaultModel, embedding: { defaultModel } },
  ] as unknown as Provider[]
  const available = createAvailability(new Map(providers.map(one => [one.name, one])))
  expect(await available()).toEqual([
    { name: 'a', defaultModel: 'chat' },
    { name: 'b', defaultModel: 'chat', embeds: { model: null } },
    { name: 'c', defaultModel: null, embeds: { model: 'embed' } },
  ])
})
