import { expect, it } from 'vitest'
import { generate } from '#shared/jobs/generate.ts'
import { moderate } from '#shared/jobs/moderate.ts'
import { type Variant, variantsFault } from './definition.ts'

const variant = (more: Partial<Variant> = {}): Variant => ({ name: 'control', weight: 1, engine: 'ai', ...more })
const other = variant({ name: 'other' })

it('distinct variants are valid, also with weight 0, a prompt version or rules', () => {
  expect(variantsFault(generate, [variant(), other])).toBeNull()
  const off = variant({ name: 'off', weight: 0, engine: 'rules', prompt_version: generate.promptVersion })
  expect(variantsFault(generate, [off, variant()])).toBeNull()
  expect(variantsFault(moderate, [variant({ prompt_version: moderate.promptVersion }), other])).toBeNull()
})

it.each([
  ['a repeated name', generate, [variant(), other, variant()], '/variants/2/name'],
  ['only weights of 0', generate, [variant({ weight: 0 }), variant({ name: 'b', weight: 0 })], '/variants'],
  ['an unknown version', generate, [other, variant({ prompt_version: '99' })], '/variants/1/prompt_version'],
  [
    'a property of every object as version',
    generate,
    [variant({ prompt_version: 'toString' })],
    '/variants/0/prompt_version',
  ],
  ['rules for a kind whose rules cannot decide', moderate, [variant({ engine: 'rules' }), other], '/variants/0/engine'],
])('variantsFault refuses %s', (_, job, variants, field) => {
  expect(variantsFault(job, variants)).toMatchObject({ field, message: expect.stringMatching(/./) })
})
