import type { AddressInfo } from 'node:net'
import Fastify from 'fastify'
import pg from 'pg'
import { coalesce } from '#shared/concurrency/coalesce.ts'
import { newId } from '#shared/ids.ts'

/** The baseline of `accept`: a bare Fastify route with one coalesced INSERT. */
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 })
await pool.query(
  'CREATE TABLE IF NOT EXISTS bench_bare (id uuid PRIMARY KEY, body json NOT NULL, created_at timestamptz NOT NULL)',
)

const insert = coalesce<{ id: string; body: string }, void>({
  max: 500,
  concurrency: 2,
  splitOnError: () => false,
  flush: async items => {
    await pool.query({
      name: 'bare_insert',
      text: 'INSERT INTO bench_bare SELECT id, body, now() FROM unnest($1::uuid[], $2::json[]) AS i(id, body)',
      values: [items.map(item => item.id), items.map(item => item.body)],
    })
    return items.map(() => undefined)
  },
})

const app = Fastify()
app.post('/', async (request, reply) => {
  const id = newId()
  await insert({ id, body: JSON.stringify(request.body) })
  return reply.code(202).send({ id })
})
await app.listen({ host: '127.0.0.1', port: 0 })
process.send?.({ type: 'ready', port: (app.server.address() as AddressInfo).port })
process.on('disconnect', () => process.exit(0))
process.on('SIGTERM', () => process.exit(0))
