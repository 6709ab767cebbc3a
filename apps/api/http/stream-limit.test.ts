import { expect, it } from 'vitest'
import { SluiceError } from '#shared/errors.ts'
import { createStreamLimit } from './stream-limit.ts'

const refusalOf = (enter: () => unknown): SluiceError | null => {
  try {
    enter()
    return null
  } catch (error) {
    return error as SluiceError
  }
}

it('each key has its own limit, and a stream that ends frees a place', () => {
  const streams = createStreamLimit({ perKey: 2, total: 10 })
  const leave = streams.enter('one')
  streams.enter('one')
  streams.enter('other')
  const refused = refusalOf(() => streams.enter('one'))
  expect(refused).toBeInstanceOf(SluiceError)
  expect(refused).toMatchObject({
    code: 'too_many_streams',
    message: expect.stringContaining('EVENT_STREAMS_PER_KEY'),
    context: { limit: 2, open: 2 },
    retryAfter: 5,
  })
  leave()
  // Repeated calls have no effect.
  leave()
  streams.enter('one')
  expect(refusalOf(() => streams.enter('one'))?.code).toBe('too_many_streams')
})

it('all keys share a total limit', () => {
  const streams = createStreamLimit({ perKey: 2, total: 3 })
  const leave = streams.enter('one')
  streams.enter('other')
  streams.enter('third')
  expect(refusalOf(() => streams.enter('fourth'))).toMatchObject({ code: 'server_busy', retryAfter: 2 })
  leave()
  streams.enter('fourth')
})
