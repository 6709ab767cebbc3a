import { expect, it } from 'vitest'
import { SluiceError } from './errors.ts'

it.each([
  ['/input/prompt', '`input.prompt` contains U+0000 or a lone surrogate.'],
  ['/input/texts/3', '`input.texts[3]` contains U+0000 or a lone surrogate.'],
  ['/metadata/a~1b', '`metadata.a/b` contains U+0000 or a lone surrogate.'],
  ['', 'Text contains U+0000 or a lone surrogate'],
  [undefined, 'Text contains U+0000 or a lone surrogate'],
])('invalid_text names the field %s', (field, message) => {
  expect(new SluiceError('invalid_text', undefined, { context: { field } }).message).toBe(message)
})
