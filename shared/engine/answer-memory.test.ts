import { expect, it } from 'vitest'
import { createAnswerMemory } from './answer-memory.ts'

it('the memory is reserved up to its bound', () => {
  const { reserve } = createAnswerMemory(10)
  const six = reserve(6)!
  expect(reserve(5)).toBeNull()
  const four = reserve(4)!
  expect(reserve(1)).toBeNull()
  expect(reserve(0)).not.toBeNull()
  six()
  expect(reserve(6)).not.toBeNull()
  four()
})

it('an answer above the bound is admitted when it is the only one', () => {
  const { reserve } = createAnswerMemory(10)
  const all = reserve(50)!
  expect(reserve(1)).toBeNull()
  all()
  expect(reserve(10)).not.toBeNull()
})
