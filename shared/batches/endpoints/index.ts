import type { JobKind } from '#shared/jobs/define.ts'
import { chatCompletions } from './chat-completions.ts'
import type { Endpoint } from './define.ts'
import { embeddings } from './embeddings.ts'
import { moderations } from './moderations.ts'
import { responses } from './responses.ts'

/** The endpoints that OpenAI's batch API accepts. */
export const OPENAI_ENDPOINTS = [
  '/v1/chat/completions',
  '/v1/responses',
  '/v1/embeddings',
  '/v1/moderations',
  '/v1/completions',
] as const

/** The supported endpoints, one line each. */
const registered: Endpoint[] = [chatCompletions, embeddings, moderations, responses]

export const ENDPOINTS: ReadonlyMap<string, Endpoint> = new Map(registered.map(one => [one.path, one]))

/** Why a batch cannot use an endpoint; null: it can. */
export function endpointProblem(endpoint: string, jobs: ReadonlyMap<string, JobKind>): string | null {
  const found = ENDPOINTS.get(endpoint)
  if (found && jobs.has(found.kind)) return null
  const served = [...ENDPOINTS.values()].filter(one => jobs.has(one.kind)).map(one => one.path)
  const why = (OPENAI_ENDPOINTS as readonly string[]).includes(endpoint)
    ? 'is not served here yet'
    : 'is no endpoint of a batch'
  return `'${endpoint.slice(0, 100)}' ${why}. Served are ${served.join(', ')}.`
}
