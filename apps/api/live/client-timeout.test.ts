import { describe, expect, it } from 'vitest'
import { clientSeconds, deadlineSeconds, waitMs } from './client-timeout.ts'

describe('the timeout of a client', () => {
  it.each([
    [undefined, 600],
    ['30', 30],
    ['0.5', 0.5],
    ['0', 600],
    ['-1', 600],
    ['soon', 600],
    ['1e9', 600],
  ])('%s is %d seconds', (header, seconds) => expect(clientSeconds({ 'x-stainless-timeout': header })).toBe(seconds))

  it('leaves the task time for the retries of an SDK', () => {
    expect(deadlineSeconds({ 'x-stainless-timeout': '30' })).toBe(100)
    expect(deadlineSeconds({ 'x-stainless-timeout': '86400' })).toBe(86_400)
    expect(deadlineSeconds({})).toBe(600)
  })

  it('ends a wait before the client does', () => {
    expect(waitMs({ 'x-stainless-timeout': '30' }, 1000)).toBe(28_000)
    expect(waitMs({ 'x-stainless-timeout': '1' }, 100)).toBe(800)
    expect(waitMs({ 'x-stainless-timeout': '1' }, 5000)).toBe(0)
  })
})
