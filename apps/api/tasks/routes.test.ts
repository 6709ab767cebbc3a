import Fastify from 'fastify'
import { expect, it } from 'vitest'
import type { ApiDeps } from '../deps.ts'
import { errors } from '../http/errors.ts'
import { tasks } from './routes.ts'

it('two lists are read concurrently, fifty more wait, and the next gets server_busy with Retry-After', async () => {
  const reading: PromiseWithResolvers<never[]>[] = []
  const begun = Promise.withResolvers<void>()
  let most = 0
  let open = 0
  const db = {
    query: () => {
      most = Math.max(most, ++open)
      if (open === 2) begun.resolve()
      const read = Promise.withResolvers<never[]>()
      reading.push(read)
      return read.promise.finally(() => open--)
    },
  }
  const app = Fastify()
  app.decorateRequest('apiKey', { getter: () => ({ id: 'key', scopes: ['read'] }) as never })
  await app.register(errors)
  await app.register(tasks, { db, jobs: new Map([['generate', {}]]) } as unknown as ApiDeps)
  await app.ready()

  const lists = Array.from({ length: 53 }, () => app.inject('/api/v1/tasks?status=failed'))
  const refused = await Promise.race(lists)
  expect(refused.statusCode).toBe(503)
  expect(refused.headers['retry-after']).toBe('2')
  expect(refused.json()).toMatchObject({ code: 'server_busy', retryable: true })

  await begun.promise
  for (let answered = 0; answered < 52; answered++) {
    while (reading.length === 0) await new Promise(resolve => setImmediate(resolve))
    reading.shift()!.resolve([])
  }
  const statuses = (await Promise.all(lists)).map(answer => answer.statusCode)
  expect(statuses.filter(status => status === 200)).toHaveLength(52)
  expect(most).toBe(2)
})
