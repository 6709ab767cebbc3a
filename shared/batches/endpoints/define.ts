import { isDeepStrictEqual } from 'node:util'
import type { EndedLine } from '#shared/db/batches/read-lines.ts'
import { excerpt } from '../checks.ts'
import type { Rejected } from '../types.ts'

/** A request body, translated to the input and options of a kind. The options are not checked. */
export type EndpointRequest = { input: Record<string, unknown>; options: Record<string, unknown> }

/**
 * The rule for a field of a request. `read`: the endpoint reads it. `ignored`: it does not change the answer. A list: the values that
 * have no effect; other values would request something unsupported. null always counts as absent.
 */
export type Rule = 'read' | 'ignored' | readonly unknown[]

/** An OpenAI endpoint whose requests can be lines of a batch. One file per endpoint, registered in `index.ts`. */
export type Endpoint = {
  path: string
  kind: string
  /** Every field of the body. */
  fields: Record<string, Rule>
  /** Model names that mean the default model. Without this function every line must name a model. */
  isPlaceholderModel?(model: unknown): boolean
  read(body: Record<string, unknown>): EndpointRequest | Rejected
  /** OpenAI's parameter names by JSON pointer (`/input/messages`, `/options/max_tokens`, …). */
  params: Record<string, string>
  /** The response body has a field for refusals. */
  refusals?: true
  /** The response body for a line that succeeded. */
  answer(line: EndedLine): Record<string, unknown>
}

/** An error response in OpenAI's format. */
export const rejection = (code: string, param: string | null, message: string, status = 400): Rejected => ({
  status,
  error: { message: excerpt(message, 500), type: 'invalid_request_error', param: param && excerpt(param, 200), code },
})

export const isRejected = (one: object): one is Rejected => 'status' in one && 'error' in one

/** @param path of `value`, in OpenAI's notation: `messages[0]` @returns a rejection for the first field that `rules` do not allow */
export function findUnsupportedField(
  value: Record<string, unknown>,
  rules: Record<string, Rule>,
  path = '',
): Rejected | null {
  for (const [name, given] of Object.entries(value)) {
    const param = path === '' ? name : `${path}.${name}`
    if (!Object.hasOwn(rules, name)) return rejection('unknown_parameter', param, `Unknown parameter: '${param}'.`)
    const rule = rules[name]!
    if (given === null || typeof rule === 'string' || rule.some(one => isDeepStrictEqual(one, given))) continue
    return rejection('unsupported_parameter', param, `'${param}' does not support this value.`)
  }
  return null
}

/** The suffix of the ids in a response: the task id without dashes. */
export const idSuffix = (line: EndedLine): string => line.task_id.replaceAll('-', '')

/** Unix seconds. */
export const answeredAt = (line: EndedLine): number =>
  Math.floor((line.finished_at ?? line.created_at).getTime() / 1000)
