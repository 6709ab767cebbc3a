import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { writeProviderDefinition } from '#shared/db/provider-definitions.ts'
import { SluiceError } from '#shared/errors.ts'
import { FORMATS } from '#shared/models/presets.ts'
import { PROVIDER_NAME } from '#shared/models/providers.ts'
import { DefinitionError, readEndpoint } from '#shared/settings/endpoint.ts'
import { type EndpointDefinition, endpointDefinition } from '#shared/settings/endpoint-schema.ts'
import type { ApiDeps } from '../deps.ts'
import { invalidField } from '../http/invalid-field.ts'
import { nullable } from '../http/schemas.ts'
import { assertStorable } from '../http/stored-values.ts'
import { unknownProvider } from './routes.ts'

const params = Type.Object({ name: Type.String({ pattern: PROVIDER_NAME, examples: ['gpu'] }) })

const EXAMPLE: EndpointDefinition = {
  preset: 'vllm',
  base_url: 'http://127.0.0.1:8000/v1',
  models: { 'qwen3-*': { images: false, context: 32_768 } },
}

const answer = Type.Object({
  name: Type.String(),
  source: Type.Enum(['settings', 'file', 'api'], {
    description: 'Where it is defined: in the settings, in `PROVIDERS_FILE`, or by this API.',
  }),
  format: Type.Enum([...FORMATS]),
  base_url: nullable(Type.String(), { description: 'null: the address of the service in its region.' }),
  model: nullable(Type.String(), { description: 'The default model. null: the first that the server lists.' }),
  pool: nullable(Type.String()),
  definition: nullable(endpointDefinition, { description: 'As written. null: the settings define it.' }),
})

/** Defines providers at run time. */
export const definitions: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  const { db, config, providerRegistry: registry, providerStatus } = deps

  function describe(name: string) {
    const { providers, sources } = registry.current()
    const found = providers.find(one => one.name === name)
    if (!found) throw unknownProvider(name)
    return {
      name,
      source: sources.get(name)!,
      format: found.adapter,
      base_url: found.baseUrl || null,
      model: found.model,
      pool: found.pool ?? null,
      definition: registry.definition(name) as EndpointDefinition | null,
    }
  }

  app.get(
    '/api/v1/providers/:name',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['providers'],
        summary: 'Read the definition of a provider',
        description: 'Never contains a key, only the name of the environment variable that holds it.',
        params,
        response: { 200: answer },
      },
    },
    async request => describe(request.params.name),
  )

  app.put(
    '/api/v1/providers/:name',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['providers'],
        summary: 'Define a provider',
        description:
          'Replaces the definition of this name as a whole, also one of the settings or of `PROVIDERS_FILE`. Every process uses it within two seconds. The environment of each process must contain the variable in `key_env`.',
        params,
        body: { ...endpointDefinition, examples: [EXAMPLE] },
        response: { 200: answer },
      },
    },
    async request => {
      const { name } = request.params
      assertStorable(request.body, '')
      try {
        readEndpoint(name, request.body, config.readKey)
      } catch (error) {
        if (!(error instanceof DefinitionError)) throw error
        throw invalidField(error.path || '/name', error.message)
      }
      await write(name, request.body)
      return describe(name)
    },
  )

  app.delete(
    '/api/v1/providers/:name',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['providers'],
        summary: 'Delete the definition of a provider',
        description:
          'Deletes what `PUT` defined; a definition of this name in `PROVIDERS_FILE` or the settings applies again. Calls in progress continue.',
        params,
        response: { 204: Type.Null() },
      },
    },
    async (request, reply) => {
      const { name } = request.params
      const source = registry.current().sources.get(name)
      if (source === undefined) throw unknownProvider(name)
      if (source !== 'api')
        throw new SluiceError(
          'provider_not_found',
          `The provider "${name}" is defined in ${source === 'file' ? 'PROVIDERS_FILE' : 'the settings'}, not by this API.`,
          { context: { field: '/name', name } },
        )
      await write(name, null)
      return reply.code(204).send(null)
    },
  )

  async function write(name: string, definition: EndpointDefinition | null): Promise<void> {
    await writeProviderDefinition(db, name, definition)
    await registry.refresh()
    providerStatus.invalidate()
  }
}
