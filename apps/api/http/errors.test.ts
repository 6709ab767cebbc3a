import type { FastifyError } from 'fastify'
import { expect, it } from 'vitest'
import { GateUnavailable } from '#shared/gate/types.ts'
import { toSluiceError } from './errors.ts'

it('an unavailable gate is a retryable error with Retry-After', () => {
  const error = toSluiceError(new GateUnavailable('away') as unknown as FastifyError)
  expect(error).toMatchObject({ code: 'gate_unavailable', retryAfter: expect.any(Number) })
})
