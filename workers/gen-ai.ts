import type { Ask } from '#shared/jobs/define.ts'
import type { TaskOptions } from '#shared/jobs/options.ts'
import type { Attributes } from '#shared/tracing/tracing.ts'
import type { CallInput, CallResult } from './pipeline/call.ts'
import type { CallAnswer, Usage } from './providers/define.ts'

/**
 * A provider call in OpenTelemetry's words for generative AI.
 * Source: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
 */

/** `gen_ai.provider.name`, where it is not ours. */
const PROVIDER_NAMES: Record<string, string> = { google: 'gcp.gemini' }
const FINISH_REASONS: Record<CallAnswer['stop'], string> = {
  end: 'stop',
  max_tokens: 'length',
  refusal: 'content_filter',
  other: 'other',
}

/** Of the request. @param content whether its prompt is wanted */
export function callAttributes(
  { task, kind, prompt, candidate, attempt }: CallInput,
  baseUrl: string | undefined,
  content: boolean,
): Attributes {
  const options = task.options as TaskOptions
  const server = baseUrl === undefined ? null : new URL(baseUrl)
  return {
    'gen_ai.operation.name': operationName(prompt),
    'gen_ai.provider.name': PROVIDER_NAMES[candidate.provider] ?? candidate.provider,
    'gen_ai.request.model': candidate.model,
    ...('texts' in prompt
      ? { 'gen_ai.embeddings.dimension.count': prompt.dimensions }
      : {
          'gen_ai.request.max_tokens': options.max_tokens ?? kind.maxTokens,
          'gen_ai.request.temperature': options.temperature,
          'gen_ai.output.type': prompt.schema ? 'json' : 'text',
        }),
    'server.address': server?.hostname,
    'server.port': server ? Number(server.port) || (server.protocol === 'https:' ? 443 : 80) : undefined,
    'sluice.attempt': attempt,
    ...(content && contentOf(prompt)),
  }
}

export const operationName = (prompt: Ask) => ('texts' in prompt ? 'embeddings' : 'chat')

const contentOf = (prompt: Ask): Attributes =>
  'texts' in prompt
    ? { 'gen_ai.input.messages': JSON.stringify([{ role: 'user', parts: prompt.texts.map(text) }]) }
    : {
        'gen_ai.system_instructions': prompt.system && JSON.stringify([text(prompt.system)]),
        'gen_ai.input.messages': JSON.stringify(
          prompt.messages.map(message => ({ role: message.role, parts: [text(message.content)] })),
        ),
      }

/** Of what came of it. */
export function answerAttributes(called: CallResult, content: boolean): Attributes {
  if (called.kind === 'failure') {
    const { usage, status } = called.failure
    return { ...usageAttributes(usage), 'http.response.status_code': status ?? undefined }
  }
  const { answer } = called
  const head = { ...usageAttributes(answer.usage), 'gen_ai.response.model': answer.model }
  // Vectors say nothing to who reads a trace.
  if ('vectors' in answer) return head
  const reason = FINISH_REASONS[answer.stop]
  return {
    ...head,
    'gen_ai.response.finish_reasons': [reason],
    ...(content && {
      'gen_ai.output.messages': JSON.stringify([
        { role: 'assistant', parts: [text(answer.text)], finish_reason: reason },
      ]),
    }),
  }
}

const text = (content: string) => ({ type: 'text', content })

const usageAttributes = (usage: Usage | null): Attributes =>
  usage
    ? {
        'gen_ai.usage.input_tokens': usage.inputTokens,
        'gen_ai.usage.output_tokens': usage.outputTokens,
        'gen_ai.usage.cache_read.input_tokens': usage.cacheReadTokens || undefined,
        'gen_ai.usage.cache_creation.input_tokens': usage.cacheWriteTokens || undefined,
      }
    : {}
