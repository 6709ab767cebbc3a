import { beforeEach, describe, expect, it } from 'vitest'
import { startMachine } from '#shared/testing/machine.ts'

const machine = startMachine()
const PATH = '/api/v1/precomputed/generate'
const put = (body: unknown, options: object = {}) => machine.call('PUT', PATH, { body, ...options })
const list = async (query = '') => (await machine.call('GET', `${PATH}${query}`)).body
const forget = async (query = '') => (await machine.call('DELETE', `${PATH}${query}`)).body.deleted

beforeEach(() => forget())

describe('the precomputed answers', () => {
  it('are written down for an input or for all others, replaced, listed and deleted', async () => {
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

  it('are listed by pages', async () => {
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

  it('suit the input that they are for', async () => {
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

describe('what cannot be a precomputed answer', () => {
  it.each([
    ['no result', { input: { prompt: 'Hi' } }, 422, 'invalid_request', '/result'],
    ['something unknown', { result: { text: 'a' }, kind: 'generate' }, 422, 'invalid_request', '/kind'],
    [
      'an input that no task could have',
      { input: { text: 'Hi' }, result: { text: 'a' } },
      422,
      'invalid_request',
      '/input/text',
    ],
    ['an input without a prompt', { input: {}, result: { text: 'a' } }, 422, 'invalid_request', '/input/prompt'],
    ['a text with U+0000', { result: { text: 'a\0' } }, 422, 'invalid_text', '/result/text'],
    [
      'half a surrogate pair',
      { input: { prompt: '\ud800' }, result: { text: 'a' } },
      422,
      'invalid_text',
      '/input/prompt',
    ],
    ['a deep result', { result: deep }, 422, 'invalid_request', '/result'],
    ['a large result', { result: { text: 'a'.repeat(262_144) } }, 413, 'field_too_large', '/result'],
    [
      'a large input',
      { input: { prompt: 'a'.repeat(262_144) }, result: { text: 'a' } },
      413,
      'field_too_large',
      '/input',
    ],
  ])('%s', async (_, body, status, code, field) => {
    expect(await put(body)).toMatchObject({ status, body: { code, context: { field } } })
    expect((await list()).data).toEqual([])
  })

  it('one of a kind that does not exist', async () => {
    for (const method of ['PUT', 'GET', 'DELETE'])
      expect(
        await machine.call(method, '/api/v1/precomputed/nothing', { ...(method === 'PUT' && { body: { result: 1 } }) }),
      ).toMatchObject({
        status: 404,
        body: { code: 'unknown_kind', context: { kinds: expect.arrayContaining(['generate', 'classify']) } },
      })
  })

  it('one that is not named by a hash', async () => {
    for (const query of ['?input_hash=', '?input_hash=abc', '?other=1'])
      expect(await machine.call('DELETE', `${PATH}${query}`)).toMatchObject({ status: 422 })
    expect(await machine.call('GET', `${PATH}?after=x`)).toMatchObject({ status: 422 })
  })

  it('one of somebody who is no admin', async () => {
    const { secret: key } = await machine.makeKey({ scopes: ['submit', 'read'] })
    expect(await put({ result: { text: 'a' } }, { key })).toMatchObject({ status: 403 })
    expect(await machine.call('GET', PATH, { key })).toMatchObject({ status: 403 })
    expect(await machine.call('DELETE', PATH, { key })).toMatchObject({ status: 403 })
    expect(await put({ result: { text: 'a' } }, { key: null })).toMatchObject({ status: 401 })
  })
})
