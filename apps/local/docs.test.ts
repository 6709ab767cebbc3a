import { expect, test } from 'vitest'
import { withSettings } from './docs.ts'

const readme = 'before\n<!-- settings:start -->\nold\n<!-- settings:end -->\nafter\n'

test('only what is between the markers is replaced', () => {
  expect(withSettings(readme, 'new')).toBe('before\n<!-- settings:start -->\nnew\n<!-- settings:end -->\nafter\n')
})

test('replacing twice changes nothing', () => {
  const once = withSettings(readme, 'new') ?? ''
  expect(withSettings(once, 'new')).toBe(once)
})

test('a text without its markers is refused', () => {
  expect(withSettings('before', 'new')).toBeNull()
})
