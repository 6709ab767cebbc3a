import { expect, it } from 'vitest'
import { SluiceError } from '#shared/errors.ts'
import { createBodyBudget } from './body-budget.ts'

const codeOf = (work: () => void) => {
  try {
    work()
    return null
  } catch (error) {
    return (error as SluiceError).code
  }
}

it('a key gets half of the budget, for any number of bodies and chunks', () => {
  const budget = createBodyBudget(100)
  const first = budget.open('a')
  const second = budget.open('a')
  first.add(20)
  first.add(20)
  second.add(10)
  expect(codeOf(() => second.add(1))).toBe('rate_limited')
  expect(budget.held).toBe(50)
  first.release()
  second.add(40)
  expect(budget.held).toBe(50)
})

it('a second key gets the other half, and a third one is refused', () => {
  const budget = createBodyBudget(100)
  const bodies = ['a', 'b'].map(key => budget.open(key))
  for (const body of bodies) body.add(50)
  const third = budget.open('c')
  expect(codeOf(() => third.add(1))).toBe('server_busy')
  bodies[0]!.release()
  third.add(50)
})

it('refused bytes are not counted, and a body is released only once', () => {
  const budget = createBodyBudget(100)
  const body = budget.open('a')
  expect(codeOf(() => body.add(51))).toBe('rate_limited')
  body.add(50)
  body.release()
  body.release()
  expect(budget.held).toBe(0)
  // The last bytes may arrive after the client left.
  body.add(10)
  expect(budget.held).toBe(0)
})

it('refusals have a Retry-After', () => {
  const error = (work: () => void) => {
    try {
      work()
    } catch (error) {
      return error as SluiceError
    }
    throw new Error('it was not refused')
  }
  const refused = error(() => createBodyBudget(100).open('a').add(51))
  expect(refused).toBeInstanceOf(SluiceError)
  expect(refused.retryAfter).toBeGreaterThan(0)
})
