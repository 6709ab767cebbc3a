import { expect, it } from 'vitest'
import { generate } from '#shared/jobs/generate.ts'
import { moderate } from '#shared/jobs/moderate.ts'
import { type Variant, wrongWith } from './definition.ts'

const variant = (more: Partial<Variant> = {}): Variant => ({ name: 'control', weight: 1, engine: 'ai', ...more })
const other = variant({ name: 'other' })

it('variants that differ are fine, also by weight 0, a version of the prompt and rules', () => {
  expect(wrongWith(generate, [variant(), other])).toBeNull()
  const off = variant({ name: 'off', weight: 0, engine: 'rules', prompt_version: generate.promptVersion })
  expect(wrongWith(generate, [off, variant()])).toBeNull()
  expect(wrongWith(moderate, [variant({ prompt_version: moderate.promptVersion }), other])).toBeNull()
})

it.each([
  ['two of one name', generate, [variant(), other, variant()], '/variants/2/name'],
  ['no weight at all', generate, [variant({ weight: 0 }), variant({ name: 'b', weight: 0 })], '/variants'],
  ['a version that is not there', generate, [other, variant({ prompt_version: '99' })], '/variants/1/prompt_version'],
  ['one that every object has', generate, [variant({ prompt_version: 'toString' })], '/variants/0/prompt_version'],
  ['rules where they do not judge', moderate, [variant({ engine: 'rules' }), other], '/variants/0/engine'],
])('wrong is: %s', (_, job, variants, field) => {
  expect(wrongWith(job, variants)).toMatchObject({ field, message: expect.stringMatching(/./) })
})
