import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { generate } from '#shared/jobs/generate.ts'
import type { TaskOptions } from '#shared/jobs/options.ts'
import { summarize } from '#shared/jobs/summarize.ts'
import { canonicalJson } from '#shared/json/canonical.ts'
import { type CacheRequest, cacheKey, taskCacheKey } from './cache-key.ts'

const json = fc.jsonValue().map(value => JSON.parse(JSON.stringify(value)) as unknown)
const name = fc.constantFrom('', 'a', 'b', 'a/b')
const record = fc.dictionary(name, json, { maxKeys: 3 })
const request: fc.Arbitrary<CacheRequest> = fc.record(
  {
    kind: name,
    promptVersion: name,
    policyVersion: name,
    routing: fc.record({ provider: name, model: name }, { requiredKeys: [] }),
    options: record,
    input: json,
    apiKeyId: name,
  },
  { requiredKeys: ['kind', 'promptVersion', 'routing', 'options', 'input', 'apiKeyId'] },
)
/** One field taken from another request: mostly another request, by little. */
const pair = fc
  .tuple(request, request, fc.constantFrom(...(['kind', 'input', 'options', 'routing', 'apiKeyId'] as const)))
  .map(([one, other, field]) => [one, { ...one, [field]: other[field] }] as const)

const task = (more: object = {}, options: object = {}) => ({
  input: { prompt: 'Hi' },
  apiKeyId: 'a',
  options: { priority: 'normal', deadline_seconds: 600, stream: false, cache: 'use', ...options } as TaskOptions,
  ...more,
})
const hexOf = (more?: object, options?: object) => taskCacheKey(generate, task(more, options))?.toString('hex')

describe('the key of a request', () => {
  it('is equal for equal requests, and for no others', () => {
    fc.assert(
      fc.property(fc.oneof(pair, fc.tuple(request, request)), ([one, other]) => {
        expect(cacheKey(one).equals(cacheKey(other))).toBe(canonicalJson(one) === canonicalJson(other))
      }),
    )
  })

  it('does not depend on the order of fields or on undefined ones', () => {
    fc.assert(
      fc.property(request, one => {
        const reordered = Object.fromEntries(Object.entries(one).toReversed()) as CacheRequest
        expect(cacheKey({ policyVersion: undefined, ...reordered }).equals(cacheKey(one))).toBe(true)
      }),
    )
  })

  it('separates fields whose concatenated texts are equal', () => {
    const base = { routing: {}, options: {}, input: {}, apiKeyId: 'x' }
    const keys = [
      { ...base, kind: 'a', promptVersion: 'bc' },
      { ...base, kind: 'ab', promptVersion: 'c' },
      { ...base, kind: 'a', promptVersion: 'bc', routing: { provider: 'm' } },
      { ...base, kind: 'a', promptVersion: 'bc', routing: { model: 'm' } },
      { ...base, kind: 'a', promptVersion: 'bc', options: { model: 'm' } },
    ].map(one => cacheKey(one).toString('hex'))
    expect(new Set(keys).size).toBe(keys.length)
  })
})

describe('the key of a task', () => {
  it('does not depend on options that only say how the task runs', () => {
    const keys = [
      hexOf(),
      hexOf({}, { priority: 'low' }),
      hexOf({}, { deadline_seconds: 5 }),
      hexOf({}, { stream: true }),
      hexOf({}, { cache: 'refresh' }),
      hexOf({}, { fallback: 'none' }),
      hexOf({}, { on_budget: 'wait' }),
      hexOf({}, { webhook_url: 'https://my.app/hook' }),
      hexOf({}, { user_id: 'user-42' }),
    ]
    expect(new Set(keys).size).toBe(1)
  })

  it('is the same with the kind’s own output limit', () => {
    const keyOf = (options: object) => taskCacheKey(summarize, task({ input: { text: 'Hi' } }, options))
    expect(keyOf({ max_tokens: summarize.maxTokens })).toEqual(keyOf({}))
  })

  it('differs with everything that may change the answer', () => {
    const keys = [
      hexOf(),
      hexOf({ apiKeyId: 'b' }),
      hexOf({ input: { prompt: 'Hi!' } }),
      hexOf({ policyVersion: '1' }),
      hexOf({ variant: 'tone/control' }),
      hexOf({ variant: 'tone/short' }),
      hexOf({}, { temperature: 0 }),
      hexOf({}, { max_tokens: 5 }),
      // Without it the limit is the model's own, so that an answer cut off here is not one to give there.
      hexOf({}, { max_tokens: generate.maxTokens }),
      hexOf({}, { provider: 'openai' }),
      hexOf({}, { model: 'auto' }),
      hexOf({}, { an_option_of_tomorrow: 1 }),
      taskCacheKey({ ...generate, promptVersion: '2' }, task())?.toString('hex'),
      taskCacheKey({ ...generate, kind: 'other' }, task())?.toString('hex'),
    ]
    expect(new Set(keys).size).toBe(keys.length)
  })

  it('is null with cache=off and for a kind that is not cached', () => {
    expect(taskCacheKey(generate, task({}, { cache: 'off' }))).toBeNull()
    expect(taskCacheKey({ ...generate, cache: null }, task())).toBeNull()
  })
})
