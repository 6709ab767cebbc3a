import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify from 'fastify'
import { type Static, type TProperties, Type } from 'typebox'
import type { ClientOptions } from '../client/index.ts'
import { createTaskRunner, unavailable } from './answers.ts'
import { normalized, type Store, type Suggestion, type Topic } from './store.ts'

const MAX_PAST_TOPICS = 100 // of the kind blog-topics
const LAST_ID = 'ffffffff-ffff-ffff-ffff-ffffffffffff'

/** One line, not blank, and without U+0000 and lone surrogates, which Postgres cannot store. */
const line = (maxLength: number) => Type.String({ maxLength, pattern: '^(?=.*\\S)[^\\0\\r\\n\\p{Cs}]*$' })
const object = <P extends TProperties>(properties: P) => Type.Object(properties, { additionalProperties: false })
const newSuggestions = object({
  author: line(200),
  interests: Type.Array(line(80), { minItems: 1, maxItems: 20 }),
  past_topics: Type.Array(line(200), { maxItems: 100, default: [] }),
  count: Type.Integer({ minimum: 1, maximum: 10, default: 5 }),
  audience: Type.Optional(line(200)),
})
const page = object({
  author: line(200),
  after: Type.String({ pattern: '^[0-9a-f-]{36}$', default: LAST_ID }),
  limit: Type.String({ pattern: '^([1-9][0-9]?|100)$', default: '20' }),
})
const newOutline = object({
  topic: line(200),
  audience: Type.Optional(line(200)),
  length: Type.Enum(['short', 'medium', 'long'], { default: 'medium' }),
  points: Type.Array(line(200), { maxItems: 10, default: [] }),
  author: Type.Optional(line(200)),
})
const QUALITIES = ['low', 'medium', 'high']
const asLine = (title: string) => title.replace(/\s+/g, ' ').slice(0, 200).toWellFormed()

export function buildApp(store: Store, { logLevel, ...server }: ClientOptions & { logLevel: string }) {
  const ajv = { customOptions: { coerceTypes: false, removeAdditional: false } } as const
  const app = Fastify({ logger: { level: logLevel }, ajv }).withTypeProvider<TypeBoxTypeProvider>()
  const stopper = new AbortController()
  const runTask = createTaskRunner(server, app.log, stopper.signal)

  /** Suggests topics that are new to the author: `count`, or fewer if there are no more. */
  async function suggest({ author, past_topics, count, ...rest }: Static<typeof newSuggestions>) {
    const past = new Set(past_topics.map(normalized))
    const found: Suggestion[] = []
    for (let round = 0; round < 3 && found.length < count; round++) {
      const earlier = await store.list(author, LAST_ID, MAX_PAST_TOPICS)
      const titles = [...past_topics, ...earlier.map(one => asLine(one.title))].slice(0, MAX_PAST_TOPICS)
      const input = { ...rest, past_topics: titles, count: count - found.length }
      const answer = await runTask<{ topics: Topic[] }>('blog-topics', input, author).catch(error => {
        // Topics that were found are stored, and would never be suggested again.
        if (found.length === 0) throw error
      })
      if (!answer) break
      const topics = answer.result.topics.filter(one => !past.has(normalized(one.title)))
      found.push(...(await store.add(author, topics, answer)))
    }
    return found
  }

  app.post('/api/suggestions', { schema: { body: newSuggestions } }, async ({ body }) => {
    const topics = await suggest(body)
    const [lowest] = topics.toSorted((a, b) => QUALITIES.indexOf(a.quality) - QUALITIES.indexOf(b.quality))
    if (!lowest) throw unavailable('no_new_topics', 'Every topic that was found has been suggested before.')
    return { topics, source: lowest.source, quality: lowest.quality }
  })

  app.get('/api/suggestions', { schema: { querystring: page } }, async ({ query: { author, after, limit } }) => {
    const found = await store.list(author, after, Number(limit) + 1)
    const data = found.slice(0, Number(limit))
    const has_more = found.length > data.length
    return { data, has_more, next: has_more ? data.at(-1)?.id : null }
  })

  app.post('/api/outlines', { schema: { body: newOutline } }, async ({ body: { author, ...input } }) => {
    const { result, source, quality } = await runTask('blog-outline', input, author)
    return { outline: result, source, quality }
  })

  app.get('/health/ready', () => store.ping().then(() => ({ status: 'ok' })))

  app.addHook('preClose', async () => stopper.abort())
  // Otherwise connections that were busy when the app began to close would stay open.
  app.addHook('onSend', async (_, reply) => void (stopper.signal.aborted && reply.header('connection', 'close')))
  app.addHook('onClose', () => store.close())
  return app
}
