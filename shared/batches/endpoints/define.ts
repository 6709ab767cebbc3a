import { isDeepStrictEqual } from 'node:util'
import { shown } from '../checks.ts'
import type { EndedLine, Rejected } from '../types.ts'

/** What a request body asks of a kind; `options` are as the client gave them, unchecked. */
export type Asked = { input: Record<string, unknown>; options: Record<string, unknown> }

/**
 * What a field of a request may be. `read`: the endpoint reads it. `ignored`: it does not change the answer. A list:
 * values that ask for nothing, where others would ask for what no kind can do. null is always as good as absent.
 */
export type Rule = 'read' | 'ignored' | readonly unknown[]

/** An endpoint of OpenAI's whose requests may be lines of a batch. One file each; `index.ts` registers it. */
export type Endpoint = {
  path: string
  kind: string
  /** Every field of the body. */
  fields: Record<string, Rule>
  /** Names that stand for whichever model would be asked anyway; without this, every line must name a model. */
  isUnnamed?(model: unknown): boolean
  read(body: Record<string, unknown>): Asked | Rejected
  /** What the client calls that which we call `/input/messages`, `/options/max_tokens`, … */
  params: Record<string, string>
  /** The body of the answer to a line that succeeded. */
  answer(line: EndedLine): Record<string, unknown>
}

/** OpenAI's way to say that a request cannot be answered. */
export const reject = (code: string, param: string | null, message: string, status = 400): Rejected => ({
  status,
  error: { message: shown(message, 500), type: 'invalid_request_error', param: param && shown(param, 200), code },
})

export const isRejected = (one: object): one is Rejected => 'status' in one && 'error' in one

/** The first field of `value` that its rule does not allow. `path`: of `value`, as OpenAI writes it: `messages[0]`. */
export function refused(value: Record<string, unknown>, rules: Record<string, Rule>, path = ''): Rejected | null {
  for (const [name, given] of Object.entries(value)) {
    const param = path === '' ? name : `${path}.${name}`
    if (!Object.hasOwn(rules, name)) return reject('unknown_parameter', param, `Unknown parameter: '${param}'.`)
    const rule = rules[name]!
    if (given === null || typeof rule === 'string' || rule.some(one => isDeepStrictEqual(one, given))) continue
    return reject('unsupported_parameter', param, `Unsupported: '${param}' cannot be asked for here.`)
  }
  return null
}

/** The task's id as the tail of the ids that an answer has. */
export const tail = (line: EndedLine): string => line.task_id.replaceAll('-', '')

/** Unix seconds. */
export const answeredAt = (line: EndedLine): number =>
  Math.floor((line.finished_at ?? line.created_at).getTime() / 1000)
