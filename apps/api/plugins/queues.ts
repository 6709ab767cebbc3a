import { createBullBoard } from '@bull-board/api'
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter'
import { FastifyAdapter } from '@bull-board/fastify'
import type { Queue } from 'bullmq'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { SluiceError } from '#shared/errors.ts'
import type { ApiDeps } from '../deps.ts'
import { needsScope, secretOf } from './auth.ts'
import { sendProblem, toSluiceError } from './errors.ts'

const BASE = '/queues'

/** bull-board. A browser signs in with HTTP Basic: any user name, an admin key as the password. */
export async function queuesDashboard(app: FastifyInstance, { producer, keys, config }: ApiDeps): Promise<void> {
  const server = new FastifyAdapter().setBasePath(BASE)
  createBullBoard({
    queues: producer
      .queues()
      .map((queue: Queue) => new BullMQAdapter(queue, { readOnlyMode: !config.QUEUES_WRITABLE })),
    serverAdapter: server,
    options: { uiConfig: { boardTitle: 'Sluice' } },
  })
  app.addHook('onRequest', async (request, reply) => {
    // Answered here and not thrown: bull-board has an error handler of its own.
    try {
      const secret = secretOf(request) ?? basicPassword(request)
      const key = secret === null ? null : await keys.find(secret)
      if (!key) return refuse(request, reply)
      if (key.scopes.includes('admin')) return
      return sendProblem(request, reply, needsScope('admin', key))
    } catch (error) {
      return sendProblem(request, reply, toSluiceError(error as FastifyError))
    }
  })
  await app.register(server.registerPlugin(), { prefix: BASE })
}

function refuse(request: FastifyRequest, reply: FastifyReply) {
  reply.header('www-authenticate', 'Basic realm="Sluice: any user name, an admin key as the password", charset="UTF-8"')
  return sendProblem(request, reply, new SluiceError('unauthenticated', 'Sign in with an admin key.'))
}

function basicPassword(request: FastifyRequest): string | null {
  const encoded = /^Basic +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1]
  if (encoded === undefined) return null
  const [, password] = Buffer.from(encoded, 'base64').toString('utf8').split(/:(.*)/s)
  return password || null
}
