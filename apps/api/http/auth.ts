import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { ApiKey, Scope } from '#shared/db/keys.ts'
import { SluiceError } from '#shared/errors.ts'
import type { ApiDeps } from '../deps.ts'
import { surfaceOf } from './error-formats.ts'
import { rateHeaders } from './rate-headers.ts'
import { whenClosed } from './when-closed.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The key of the request. Set on every route that names a `scope`. */
    apiKey: ApiKey
  }
  interface FastifyContextConfig {
    /** The scope that the key needs; `admin` includes all. Without a scope the route is public. */
    scope?: Scope
  }
}

/** Finds the key, checks its scope and counts the request against its limit, before the body is read. */
export const auth = fp(
  async (app: FastifyInstance, { keys, take }: Pick<ApiDeps, 'keys' | 'take'>) => {
    app.decorateRequest('apiKey', null as unknown as ApiKey)
    app.addHook('onRequest', async (request, reply) => {
      const { scope } = request.routeOptions.config
      if (scope === undefined) return
      const secret = secretOf(request)
      if (secret === null) throw missingKey(request)
      const key = await keys.find(secret)
      // Does not reveal whether there was such a key.
      if (!key) throw new SluiceError('invalid_api_key', 'The API key is wrong or was revoked.')
      if (!key.scopes.includes(scope) && !isAdmin(key)) throw missingScope(scope, key)
      request.apiKey = key
      // A response that has not begun is left to its handler.
      const unwatch = keys.watch(key, () => {
        if (reply.raw.headersSent) reply.raw.destroy()
      })
      whenClosed(reply.raw, unwatch)
      if (key.requests_per_minute === null) return
      const taken = await take(key.id, key.requests_per_minute)
      reply.headers(rateHeaders(surfaceOf(request), 'requests', { limit: key.requests_per_minute, ...taken }))
      if (!taken.ok) {
        throw new SluiceError('rate_limited', `The key’s limit is ${key.requests_per_minute} requests per minute.`, {
          context: { requests_per_minute: key.requests_per_minute },
          retryAfter: Math.ceil(taken.ms / 1000),
        })
      }
    })
  },
  { name: 'auth', dependencies: ['errors'] },
)

export const isAdmin = (key: Pick<ApiKey, 'scopes'>): boolean => key.scopes.includes('admin')

/** Whether a key may see the rows of the key `ownerId`. */
export const mayAccess = (key: Pick<ApiKey, 'id' | 'scopes'>, ownerId: string): boolean =>
  ownerId === key.id || isAdmin(key)

export const revokedKey = () => new SluiceError('invalid_api_key', 'The key was revoked.')

export const missingScope = (scope: Scope, { scopes }: Pick<ApiKey, 'scopes'>) =>
  new SluiceError(
    'forbidden',
    `This needs the scope "${scope}"; the key has ${scopes.map(one => `"${one}"`).join(', ')}.`,
    { context: { scope, scopes } },
  )

function missingKey({ headers: { authorization } }: FastifyRequest): SluiceError {
  const remedy = 'Send "Authorization: Bearer <key>" or "X-API-Key: <key>".'
  if (!authorization) return new SluiceError('unauthenticated', `No API key was sent. ${remedy}`)
  const context = { field: 'authorization' }
  // A header without a scheme may be the key itself, which must not come back in an error.
  const scheme = /^([A-Za-z]{1,20}) +\S/.exec(authorization)?.[1]
  const problem =
    scheme === undefined
      ? 'The Authorization header is not of the form "Bearer <key>".'
      : scheme.toLowerCase() === 'bearer'
        ? 'The key in the Authorization header contains a space.'
        : `The Authorization header has the scheme "${scheme}" instead of "Bearer".`
  return new SluiceError('unauthenticated', `${problem} ${remedy}`, { context })
}

export function secretOf(request: FastifyRequest): string | null {
  const { authorization, 'x-api-key': header } = request.headers
  if (typeof header === 'string' && header !== '') return header
  return /^Bearer +(\S+) *$/i.exec(authorization ?? '')?.[1] ?? null
}
