import { createBullBoard } from '@bull-board/api'
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter'
import { FastifyAdapter } from '@bull-board/fastify'
import type { Queue } from 'bullmq'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { SluiceError } from '#shared/errors.ts'
import type { ApiDeps } from '../deps.ts'
import { isAdmin, missingScope, secretOf } from '../http/auth.ts'
import { sendProblem, toSluiceError } from '../http/errors.ts'

const BASE = '/queues'

/** bull-board. A browser signs in with HTTP Basic: any user name, an admin key as the password. */
export async function queueDashboard(app: FastifyInstance, { producer, keys, config }: ApiDeps): Promise<void> {
  const server = new FastifyAdapter().setBasePath(BASE)
  createBullBoard({
    queues: producer
      .queues()
      .map((queue: Queue) => new BullMQAdapter(queue, { readOnlyMode: !config.QUEUES_WRITABLE })),
    serverAdapter: server,
    options: { uiConfig: { boardTitle: 'Sluice' } },
  })
  app.addHook('onRequest', async (request, reply) => {
    // Errors are answered here, because bull-board replaces the error handler.
    try {
      const secret = secretOf(request) ?? basicPassword(request)
      const key = secret === null ? null : await keys.find(secret)
      if (!key) return refuse(request, reply, secret === null)
      if (isAdmin(key)) return
      return sendProblem(request, reply, missingScope('admin', key))
    } catch (error) {
      return sendProblem(request, reply, toSluiceError(error as FastifyError))
    }
  })
  await app.register(server.registerPlugin(), { prefix: BASE })
}

function refuse(request: FastifyRequest, reply: FastifyReply, missing: boolean) {
  reply.header('www-authenticate', 'Basic realm="Sluice: any user name, an admin key as the password", charset="UTF-8"')
  const code = missing ? 'unauthenticated' : 'invalid_api_key'
  return sendProblem(request, reply, new SluiceError(code, 'Sign in with an admin key as the password.'))
}

function basicPassword(request: FastifyRequest): string | null {
  const encoded = /^Basic +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1]
  if (encoded === undefined) return null
  const [, password] = Buffer.from(encoded, 'base64').toString('utf8').split(/:(.*)/s)
  return password || null
}
