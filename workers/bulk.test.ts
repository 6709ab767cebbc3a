import { expect, it } from 'vitest'
import { createBulk } from './bulk.ts'

it('holds so much at the same time', () => {
  const { take } = createBulk(10)
  const six = take(6)!
  expect(take(5)).toBeNull()
  const four = take(4)!
  expect(take(1)).toBeNull()
  expect(take(0)).not.toBeNull()
  six()
  expect(take(6)).not.toBeNull()
  four()
})

it('lets pass alone what is larger', () => {
  const { take } = createBulk(10)
  const all = take(50)!
  expect(take(1)).toBeNull()
  all()
  expect(take(10)).not.toBeNull()
})
