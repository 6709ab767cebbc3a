import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { ApiKey, Scope } from '#shared/db/keys.ts'
import { SluiceError } from '#shared/errors.ts'
import type { ApiDeps } from '../deps.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The key that the request came with. Set on every route that names a `scope`. */
    apiKey: ApiKey
  }
  interface FastifyContextConfig {
    /** What a key must be allowed to do here; `admin` may do everything. No scope: open to all. */
    scope?: Scope
  }
}

/** Finds the key, checks its scope and counts the request against its limit, before the body is read. */
export const auth = fp(
  async (app: FastifyInstance, { keys, take }: Pick<ApiDeps, 'keys' | 'take'>) => {
    app.decorateRequest('apiKey', null as unknown as ApiKey)
    app.addHook('onRequest', async request => {
      const { scope } = request.routeOptions.config
      if (scope === undefined) return
      const secret = secretOf(request)
      const key = secret === null ? null : await keys.find(secret)
      if (!key) throw new SluiceError('unauthenticated')
      if (!key.scopes.includes(scope) && !key.scopes.includes('admin')) {
        throw needsScope(scope, key)
      }
      request.apiKey = key
      if (key.requests_per_minute === null) return
      const taken = await take(key.id, key.requests_per_minute)
      if (!taken.ok) {
        throw new SluiceError('rate_limited', `The key’s limit is ${key.requests_per_minute} per minute.`, {
          context: { requests_per_minute: key.requests_per_minute },
          retryAfter: Math.ceil(taken.ms / 1000),
        })
      }
    })
  },
  { name: 'auth', dependencies: ['errors'] },
)

export const needsScope = (scope: Scope, key: ApiKey) =>
  new SluiceError('forbidden', `This needs the scope "${scope}".`, { context: { scope, scopes: key.scopes } })

export function secretOf(request: FastifyRequest): string | null {
  const { authorization, 'x-api-key': header } = request.headers
  if (typeof header === 'string' && header !== '') return header
  return /^Bearer +(\S+) *$/i.exec(authorization ?? '')?.[1] ?? null
}
