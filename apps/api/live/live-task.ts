import type { FastifyRequest } from 'fastify'
import { taskCacheKey } from '#shared/cache/cache-key.ts'
import type { NewTask } from '#shared/db/tasks/new-task.ts'
import { newId } from '#shared/ids.ts'
import { generate } from '#shared/jobs/generate.ts'
import type { StoredOptions } from '#shared/jobs/options.ts'
import type { StreamEvent } from '#shared/requests/answer.ts'
import type { StoredRequest } from '#shared/requests/stored.ts'
import type { ParsedRequest } from '#shared/requests/wire.ts'
import { traceparentOf } from '../http/trace.ts'
import { deadlineSeconds } from './client-timeout.ts'

/** A request of a compatible surface whose client waits for the answer. */
export type LiveRequest = {
  original: StoredRequest
  parsed: ParsedRequest
  metadata: Record<string, unknown> | null
  /** The call continues when the client leaves: the answer is stored for it. */
  finish: boolean
  /** See the column `stored` of `tasks`. */
  stored?: boolean
  /** Receives the answer while the model writes it; absent: the client wants it whole. */
  onEvent?: ((event: StreamEvent) => void) | undefined
  /** Receives the names of the parameters that the request loses, with the client's permission, before the answer begins. */
  onLost?: ((names: string[]) => void) | undefined
}

export function optionsOf({ headers }: FastifyRequest, { parsed }: Pick<LiveRequest, 'parsed'>): StoredOptions {
  return {
    ...(parsed.model !== undefined && { model: parsed.model }),
    ...(parsed.maxTokens !== undefined && { max_tokens: parsed.maxTokens }),
    priority: 'interactive',
    deadline_seconds: deadlineSeconds(headers),
    stream: parsed.stream,
    // Clients expect sampling.
    cache: headers['x-sluice-cache'] === 'use' ? 'use' : 'off',
    on_budget: 'fail',
    fallback: 'none',
    prompt_version: generate.promptVersion,
    refusals: 'result',
    ...allowedLosses(headers['x-sluice-allow-lossy']),
    ...(parsed.stream && { streams: 'events' }),
  }
}

/** `true`, or names of parameters, separated by commas. */
export function allowedLosses(header: string | string[] | undefined): Pick<StoredOptions, 'allow_lossy'> {
  const names = [header ?? []]
    .flat()
    .join(',')
    .split(',')
    .map(one => one.trim())
    .filter(one => one !== '')
  if (names.length === 0) return {}
  return { allow_lossy: names.some(one => one.toLowerCase() === 'true') ? true : names }
}

/** A task of the kind `generate`, dispatched by the caller. */
export function newTask(
  request: FastifyRequest,
  { original, metadata, stored }: Pick<LiveRequest, 'original' | 'metadata' | 'stored'>,
  options: StoredOptions,
): NewTask {
  const apiKeyId = request.apiKey.id
  const input = original
  return {
    id: newId(),
    kind: generate.kind,
    queue: generate.queue,
    priority: options.priority,
    apiKeyId,
    input,
    options,
    metadata,
    deadlineSeconds: options.deadline_seconds,
    dispatched: true,
    cacheKey: taskCacheKey(generate, { input, options, apiKeyId, variant: undefined }),
    webhookUrl: null,
    exposure: null,
    ...(stored !== undefined && { stored }),
    traceparent: traceparentOf(request),
    answer: null,
    idempotency: null,
  }
}
