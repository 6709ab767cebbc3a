import type { CallInput, CallResult } from '#shared/engine/call.ts'
import type { ModelRequest } from '#shared/jobs/define.ts'
import type { TaskOptions } from '#shared/jobs/options.ts'
import type { Usage } from '#shared/providers/define.ts'
import { textOfParts } from '#shared/requests/answer.ts'
import { messageText } from '#shared/requests/text.ts'
import type { Attributes } from '#shared/tracing/tracing.ts'

/**
 * Attributes of a provider call by the OpenTelemetry conventions for generative AI.
 * Source: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
 */

/** Values of `gen_ai.provider.name` that differ from our provider names. */
const PROVIDER_NAMES: Record<string, string> = { google: 'gcp.gemini' }

/** Attributes of the request. @param content whether to include the prompt */
export function callAttributes(
  { task, prompt, target, attempt, maxTokens }: CallInput,
  baseUrl: string | undefined,
  content: boolean,
): Attributes {
  const options = task.options as TaskOptions
  const server = baseUrl === undefined ? null : new URL(baseUrl)
  return {
    'gen_ai.operation.name': operationName(prompt),
    'gen_ai.provider.name': PROVIDER_NAMES[target.provider] ?? target.provider,
    'gen_ai.request.model': target.model,
    ...('texts' in prompt
      ? { 'gen_ai.embeddings.dimension.count': prompt.dimensions }
      : {
          'gen_ai.request.max_tokens': maxTokens,
          'gen_ai.request.temperature': options.temperature,
          'gen_ai.output.type': prompt.schema ? 'json' : 'text',
        }),
    'server.address': server?.hostname,
    'server.port': server ? Number(server.port) || (server.protocol === 'https:' ? 443 : 80) : undefined,
    'sluice.attempt': attempt,
    ...(content && contentOf(prompt)),
  }
}

export const operationName = (prompt: ModelRequest) => ('texts' in prompt ? 'embeddings' : 'chat')

const contentOf = (prompt: ModelRequest): Attributes =>
  'texts' in prompt
    ? { 'gen_ai.input.messages': JSON.stringify([{ role: 'user', parts: prompt.texts.map(text) }]) }
    : {
        'gen_ai.system_instructions': prompt.system && JSON.stringify([text(prompt.system)]),
        'gen_ai.input.messages': JSON.stringify(
          prompt.messages.map(message => ({ role: message.role, parts: [text(messageText(message))] })),
        ),
      }

/** Attributes of the answer or failure. @param content whether to include the answer */
export function answerAttributes(called: CallResult, content: boolean): Attributes {
  if (called.kind === 'failure') {
    const { usage, status } = called.failure
    return { ...usageAttributes(usage), 'http.response.status_code': status ?? undefined }
  }
  const { answer } = called
  const head = { ...usageAttributes(answer.usage), 'gen_ai.response.model': answer.model }
  // Vectors are not useful in a trace.
  if ('vectors' in answer) return head
  const reason = answer.finishReason
  return {
    ...head,
    'gen_ai.response.finish_reasons': [reason],
    ...(content && {
      'gen_ai.output.messages': JSON.stringify([
        { role: 'assistant', parts: [text(textOfParts(answer.parts))], finish_reason: reason },
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
        'gen_ai.usage.reasoning.output_tokens': usage.reasoningTokens || undefined,
        'gen_ai.usage.cache_creation.input_tokens': usage.cacheWriteTokens || undefined,
      }
    : {}
