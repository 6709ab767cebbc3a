import { describe, expect, it } from 'vitest'
import type { CheckOutcome } from './define.ts'
import { generate } from './generate.ts'
import { jobs } from './index.ts'

const SCHEMA = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] }
const reasonOf = (checked: CheckOutcome) => (checked.ok ? null : checked.reason)

describe('generate', () => {
  it('is registered under its name', () => expect(jobs.get('generate')).toBe(generate))

  it('sends the prompt, or the conversation unchanged', () => {
    expect(generate.prompts[1]!({ prompt: 'Hi' })).toEqual({ messages: [{ role: 'user', content: 'Hi' }] })
    const messages = [
      { role: 'user', content: 'Hi' },
      { role: 'assistant', content: 'Hello' },
      { role: 'user', content: 'Bye' },
    ]
    expect(generate.prompts[1]!({ messages, system: 'Be brief', schema: SCHEMA })).toEqual({
      messages,
      system: 'Be brief',
      schema: SCHEMA,
    })
  })

  it.each([
    ['neither prompt nor messages', {}, '/input/prompt'],
    ['both', { prompt: 'a', messages: [{ role: 'user', content: 'a' }] }, '/input/prompt'],
    [
      'a conversation that ends with the assistant',
      {
        messages: [
          { role: 'user', content: 'a' },
          { role: 'assistant', content: 'b' },
        ],
      },
      '/input/messages/1/role',
    ],
    ['an invalid schema', { prompt: 'a', schema: { type: 'text' } }, '/input/schema'],
    ['a schema that is too large', { prompt: 'a', schema: { title: 'x'.repeat(70_000) } }, '/input/schema'],
    ['a schema that is too large to compile', { prompt: 'a', schema: { enum: Array(5000).fill(1) } }, '/input/schema'],
    ['a schema that never ends', { prompt: 'a', schema: { anyOf: [{ $ref: '#' }] } }, '/input/schema'],
    ['a schema with $async', { prompt: 'a', schema: { $async: true } }, '/input/schema'],
  ])('refuses %s and names the field', (_, input, field) => {
    expect(generate.validate(input)).toEqual({ field, message: expect.stringMatching(/^[^\n]{5,}$/) })
  })

  it('accepts a prompt with a schema', () => {
    expect(generate.validate({ prompt: 'a', schema: SCHEMA })).toBeNull()
    expect(generate.validate(generate.example.input)).toBeNull()
  })

  it('accepts any text except an empty one', async () => {
    expect(await generate.check('Hello', { prompt: 'a' }, '')).toEqual({ ok: true, result: { text: 'Hello' } })
    expect(reasonOf(await generate.check(' \n', { prompt: 'a' }, ''))).toBe('the answer is empty')
  })

  it('accepts only JSON that matches the schema', async () => {
    const input = { prompt: 'a', schema: SCHEMA }
    expect(await generate.check('{"n":1}', input, '')).toEqual({ ok: true, result: { n: 1 } })
    expect(await generate.check('Sure!\n```json\n{"n":1}\n```', input, '')).toEqual({ ok: true, result: { n: 1 } })
    expect(reasonOf(await generate.check('Sure! It is 1.', input, ''))).toBe('the answer is not JSON')
    expect(reasonOf(await generate.check('{"n":"1"}', input, ''))).toBe(
      'the answer does not match the schema: /n must be integer',
    )
  })

  it('keeps reasoning and fences in a text', async () => {
    for (const text of ['<think>Hm.</think>\n\nHello', '```json\n{"n":1}\n```', '\uFEFF Hello ']) {
      expect(await generate.check(text, { prompt: 'a' }, '')).toEqual({ ok: true, result: { text } })
    }
  })

  it('replaces characters in a JSON answer that Postgres cannot store', async () => {
    const checked = await generate.check('{"a\\u0000":"\\ud800"}', { prompt: 'a', schema: {} }, '')
    expect(checked).toEqual({ ok: true, result: { 'a\uFFFD': '\uFFFD' } })
  })

  it('refuses an answer that is nested too deeply', async () => {
    const input = {
      prompt: 'a',
      schema: { $ref: '#/$defs/list', $defs: { list: { items: { $ref: '#/$defs/list' } } } },
    }
    for (const depth of [1000, 5000, 100_000]) {
      expect(await generate.check('['.repeat(depth) + ']'.repeat(depth), input, '')).toMatchObject({ ok: false })
    }
  })

  it('refuses an answer whose check would not end, and may accept another', async () => {
    const list = { items: { allOf: [{ $ref: '#/$defs/list' }, { $ref: '#/$defs/list' }] } }
    const input = { prompt: 'a', schema: { $ref: '#/$defs/list', $defs: { list } } }
    expect(generate.validate(input)).toBeNull()
    expect(await generate.check('['.repeat(100) + ']'.repeat(100), input, '')).toEqual({
      ok: false,
      reason: 'the answer does not match the schema: (root) takes too long to check',
    })
  })

  it('fails at once with a schema that only an older version accepted', async () => {
    const checked = await generate.check('{}', { prompt: 'a', schema: { $ref: '#' } }, '')
    expect(checked).toMatchObject({ ok: false, fatal: 'invalid_output', reason: expect.stringMatching(/itself/) })
  })

  it('has no rules', () => {
    expect(generate.rules({ prompt: 'a' })).toBeNull()
    expect(generate.rules({ prompt: 'a', schema: SCHEMA })).toBeNull()
  })

  it('streams the text, or the object as JSON', () => {
    expect(generate.text({ text: 'Hello' })).toBe('Hello')
    expect(generate.text({ n: 1 })).toBe('{"n":1}')
    expect(generate.text([1])).toBe('[1]')
    expect(generate.text(null)).toBe('null')
  })
})
