import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { sharedStack } from '#shared/testing/stack.ts'

const stack = sharedStack()
const PATH = '/api/v1/precomputed/generate'
const put = (body: unknown, options: object = {}) => stack.call('PUT', PATH, { body, ...options })
const list = async (query = '') => (await stack.call('GET', `${PATH}${query}`)).body
const forget = async (query = '') => (await stack.call('DELETE', `${PATH}${query}`)).body.deleted

beforeEach(() => forget())
afterAll(() => forget())

describe('precomputed answers', () => {
  it('are set for one input or as the default, replaced, listed and deleted', async () => {
    const one = await put({ input: { prompt: 'Hi', system: 'Be brief.' }, result: { text: 'Hello' } })
    expect(one).toMatchObject({
      status: 200,
      body: {
        kind: 'generate',
        input_hash: expect.stringMatching(/^[0-9a-f]{64}$/),
        input: { prompt: 'Hi', system: 'Be brief.' },
        result: { text: 'Hello' },
      },
    })
    const again = await put({ input: { system: 'Be brief.', prompt: 'Hi' }, result: { text: 'Hello!' } })
    expect(again.body.input_hash).toBe(one.body.input_hash)
    const byDefault = await put({ result: { text: 'Come back later.' } })
    expect(byDefault.body).toMatchObject({ input_hash: 'default', input: null })
    expect(await list()).toEqual({ data: [byDefault.body, again.body], has_more: false, next: null })

    expect(await forget(`?input_hash=${one.body.input_hash}`)).toBe(1)
    expect(await forget(`?input_hash=${one.body.input_hash}`)).toBe(0)
    expect((await list()).data).toEqual([byDefault.body])
    expect(await forget('?input_hash=default')).toBe(1)
    expect((await list()).data).toEqual([])
  })

  it('are listed in pages', async () => {
    for (const prompt of ['a', 'b', 'c']) await put({ input: { prompt }, result: { text: prompt } })
    await put({ result: { text: 'default' } })
    const texts: string[] = []
    let query = '?limit=1'
    for (;;) {
      const page = await list(query)
      texts.push(...page.data.map((one: { result: { text: string } }) => one.result.text))
      if (!page.has_more) break
      query = `?limit=1&after=${page.next}`
    }
    expect(texts[0]).toBe('default')
    expect(texts.sort()).toEqual(['a', 'b', 'c', 'default'])
    expect(await forget()).toBe(4)
  })

  it('must fit the schema of their input', async () => {
    const schema = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] }
    expect(await put({ input: { prompt: 'Hi', schema }, result: { n: 1 } })).toMatchObject({ status: 200 })
    for (const [input, result] of [
      [{ prompt: 'Hi', schema }, { n: 'one' }],
      [{ prompt: 'Hi', schema }, { text: 'Hello' }],
      [{ prompt: 'Hi' }, { text: ' ' }],
      [{ prompt: 'Hi' }, 'Hello'],
      [undefined, null],
    ])
      expect(await put({ input, result })).toMatchObject({
        status: 422,
        body: { code: 'invalid_request', context: { field: '/result' } },
      })
  })
})

const deep = JSON.parse(`${'['.repeat(300)}${']'.repeat(300)}`)

describe('a precomputed answer is refused:', () => {
  it.each([
    ['without a result', { input: { prompt: 'Hi' } }, 422, 'invalid_request', '/result'],
    ['with an unknown field', { result: { text: 'a' }, kind: 'generate' }, 422, 'unknown_field', '/kind'],
    [
      'with an input of another kind',
      { input: { text: 'Hi' }, result: { text: 'a' } },
      422,
      'unknown_field',
      '/input/text',
    ],
    ['with an input without a prompt', { input: {}, result: { text: 'a' } }, 422, 'invalid_request', '/input/prompt'],
    ['with U+0000', { result: { text: 'a\0' } }, 422, 'invalid_text', '/result/text'],
    [
      'with half a surrogate pair',
      { input: { prompt: '\ud800' }, result: { text: 'a' } },
      422,
      'invalid_text',
      '/input/prompt',
    ],
    ['with a deeply nested result', { result: deep }, 422, 'invalid_request', '/result'],
    ['with a large result', { result: { text: 'a'.repeat(262_144) } }, 413, 'field_too_large', '/result'],
    [
      'with a large input',
      { input: { prompt: 'a'.repeat(262_144) }, result: { text: 'a' } },
      413,
      'field_too_large',
      '/input',
    ],
  ])('%s', async (_, body, status, code, field) => {
    expect(await put(body)).toMatchObject({ status, body: { code, context: { field } } })
    expect((await list()).data).toEqual([])
  })

  it('of an unknown kind', async () => {
    for (const method of ['PUT', 'GET', 'DELETE'])
      expect(
        await stack.call(method, '/api/v1/precomputed/nothing', { ...(method === 'PUT' && { body: { result: 1 } }) }),
      ).toMatchObject({
        status: 404,
        body: { code: 'unknown_kind', context: { kinds: expect.arrayContaining(['generate', 'classify']) } },
      })
  })

  it('with an invalid input_hash', async () => {
    for (const query of ['?input_hash=', '?input_hash=abc', '?other=1'])
      expect(await stack.call('DELETE', `${PATH}${query}`)).toMatchObject({ status: 422 })
    expect(await stack.call('GET', `${PATH}?after=x`)).toMatchObject({ status: 422 })
  })

  it('without the admin scope', async () => {
    const { secret: key } = await stack.makeKey({ scopes: ['submit', 'read'] })
    expect(await put({ result: { text: 'a' } }, { key })).toMatchObject({ status: 403 })
    expect(await stack.call('GET', PATH, { key })).toMatchObject({ status: 403 })
    expect(await stack.call('DELETE', PATH, { key })).toMatchObject({ status: 403 })
    expect(await put({ result: { text: 'a' } }, { key: null })).toMatchObject({ status: 401 })
  })
})
