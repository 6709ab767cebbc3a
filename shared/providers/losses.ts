import { catalogueOf } from '#shared/models/declared.ts'
import type { ProviderDescriptor } from '#shared/models/providers.ts'
import { parameterOf, withoutIndexes } from '#shared/requests/parameters.ts'
import type { ChatRequest, Wire } from '#shared/requests/request.ts'
import { wireFormat } from '#shared/requests/wires.ts'
import { ollamaLosses } from './ollama-request.ts'
import { dialectOf } from './openai-dialects.ts'

/** What a request loses on its way to a provider. Pure. */

export type Format = ProviderDescriptor['adapter']

/** Where a request goes: the provider, the format that it speaks, and the model. */
export type Destination = { provider: string; format: Format; model: string }

/** `name`: of the parameter, without places. `param`: with the place of the first part that is lost. */
export type Loss = { name: string; param: string }

const WIRE_OF: Record<Format, Wire | null> = { openai: 'openai-chat', anthropic: 'anthropic-messages', ollama: null }

/** Whether the provider receives the client's request as it is. */
export const isForwarded = ({ format }: Pick<Destination, 'format'>, { original }: ChatRequest): boolean =>
  original !== undefined && original.wire === WIRE_OF[format]

/** What the provider does not receive. None, if it speaks the client's format. */
export function lossesOf(to: Destination, request: ChatRequest): Loss[] {
  if (isForwarded(to, request)) return []
  const { original, untranslated = [] } = request
  const lost = [
    ...untranslated.map(param => ({ name: withoutIndexes(param), param })),
    ...fieldsLost(to, request).map(name => parameterOf(name, original)),
  ]
  return [...new Map(lost.map(one => [one.name, one])).values()]
}

function fieldsLost({ format, provider, model }: Destination, request: ChatRequest): string[] {
  if (format === 'ollama') return ollamaLosses(request)
  if (format === 'anthropic') return wireFormat('anthropic-messages').losses(request)
  return [...wireFormat('openai-chat').losses(request), ...leftOut(provider, model, request)]
}

/** Fields that a server's dialect leaves out, and that say something. */
function leftOut(provider: string, model: string, request: ChatRequest): string[] {
  return dialectOf(catalogueOf(provider))
    .without(model)
    .flatMap(name => {
      switch (name) {
        case 'sampling':
          return Object.keys(request.sampling ?? {}).map(one => `sampling.${one}`)
        case 'effort':
          return request.effort === undefined || request.effort === 'none' ? [] : ['effort']
        case 'thinking':
          return request.thinking?.enabled ? ['thinking.enabled'] : []
        case 'parallelToolCalls':
          return request.parallelToolCalls === false && request.tools?.length ? ['parallelToolCalls'] : []
        // The client's id of its end user changes no answer.
        case 'user':
          return []
        default:
          return request[name] === undefined ? [] : [name]
      }
    })
}
