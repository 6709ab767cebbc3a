import { setTimeout as delay } from 'node:timers/promises'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify from 'fastify'
import { type TProperties, Type } from 'typebox'
import { v7 } from 'uuid'
import { createModeration, type Held, type Settings } from './moderation.ts'
import type { Store } from './store.ts'

/** Not blank, and without U+0000 and lone surrogates, which Postgres cannot store. */
const text = (maxLength: number) => Type.String({ maxLength, pattern: '^(?=[^]*\\S)[^\\0\\p{Cs}]*$' })
const object = <P extends TProperties>(properties: P) => Type.Object(properties, { additionalProperties: false })
const newComment = object({ post_id: text(200), author: text(100), text: text(10_000) })
const page = object({
  post_id: text(200),
  after: Type.String({ pattern: '^[0-9a-f-]{36}$', default: 'ffffffff-ffff-ffff-ffff-ffffffffffff' }),
  limit: Type.String({ pattern: '^([1-9][0-9]?|100)$', default: '20' }),
})
const HTTP_STATUS = { visible: 201, held: 202, blocked: 422 }

export function buildApp(store: Store, { logLevel, ...settings }: Settings & { logLevel: string }) {
  const ajv = { customOptions: { coerceTypes: false, removeAdditional: false } } as const
  const app = Fastify({ logger: { level: logLevel }, ajv }).withTypeProvider<TypeBoxTypeProvider>()
  const stopper = new AbortController()
  const stopping = stopper.signal
  const moderation = createModeration(settings, app.log, stopping)

  app.post('/api/comments', { schema: { body: newComment } }, async ({ body }, reply) => {
    const comment = { id: v7(), ...body }
    const outcome = await moderation.judge(comment)
    const { status, verdict } = outcome
    const [stored] = await store.insert(comment, outcome)
    reply.code(HTTP_STATUS[status])
    if (status !== 'blocked') return { ...stored, status }
    const { violations = [], reason = null } = verdict ?? {}
    return { code: 'blocked', message: 'This comment cannot be published.', violations, reason }
  })

  app.get('/api/comments', { schema: { querystring: page } }, async ({ query: { post_id, after, limit } }) => {
    const found = await store.list(post_id, after, Number(limit) + 1)
    const data = found.slice(0, Number(limit))
    const has_more = found.length > data.length
    return { data, has_more, next: has_more ? data.at(-1)?.id : null }
  })

  app.get('/health/ready', () => store.ping().then(() => ({ status: 'ok' })))

  /** Shows or drops a held comment on which there is a decision. */
  async function settle(held: Held) {
    const outcome = await moderation.check(held)
    const { status, taskId, verdict } = outcome
    const changed = status !== 'held' || taskId !== held.task_id || (verdict && !held.verdict)
    if (changed) await store.settle(held.id, outcome)
  }
  async function settleHeld() {
    while (!stopping.aborted) {
      try {
        await Promise.all((await store.takeHeld()).map(settle))
      } catch (err) {
        app.log.warn({ err }, 'held comments cannot be checked')
      }
      await delay(2000, undefined, { signal: stopping }).catch(() => {})
    }
  }
  const settling = settleHeld()
  app.addHook('preClose', async () => stopper.abort())
  // Otherwise connections that were busy when the app began to close would stay open.
  app.addHook('onSend', async (_, reply) => void (stopping.aborted && reply.header('connection', 'close')))
  app.addHook('onClose', () => settling.then(store.close))
  return app
}
