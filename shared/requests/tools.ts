import { schemaProblem } from '#shared/json/schema.ts'
import { partsOf } from './parts.ts'
import type { ChatRequest, Tool } from './request.ts'

/** Rules for tools, the same for every wire format. */

/** Why a tool is refused. `code`: OpenAI's. `message`: without the name of the parameter. */
export type ToolProblem = { field: 'name' | 'parameters'; code: string; message: string }

const NAME = /^[a-zA-Z0-9_-]{1,128}$/

/** Checks the tools of one request, one after the other. */
export function createToolCheck(): (tool: Tool) => ToolProblem | null {
  const names = new Set<string>()
  return ({ name, parameters }) => {
    const wrongName = (message: string): ToolProblem => ({ field: 'name', code: 'invalid_value', message })
    if (!NAME.test(name)) return wrongName('a name has 1 to 128 letters, digits, underscores or dashes')
    if (names.has(name)) return wrongName(`there is another tool named '${name}'`)
    names.add(name)
    if (!parameters) return null
    const wrongSchema = (message: string): ToolProblem => ({
      field: 'parameters',
      code: 'invalid_function_parameters',
      message: `Invalid schema for function '${name}': ${message}`,
    })
    const { type } = parameters
    if (type !== undefined && type !== null && type !== 'object')
      return wrongSchema(`schema must be a JSON Schema of 'type: "object"', got 'type: ${JSON.stringify(type)}'.`)
    const problem = schemaProblem(parameters)
    return problem === null ? null : wrongSchema(`${problem}.`)
  }
}

/** Follows the tool calls of a conversation: each has one result, which follows it. */
export function createCallCheck() {
  const unanswered = new Set<string>()
  return {
    called(id: string): void {
      unanswered.add(id)
    },
    /** @returns whether the call of a result precedes it, and has no other result */
    answered: (id: string): boolean => unanswered.delete(id),
    /** The calls without a result so far. */
    unanswered: (): string[] => [...unanswered],
  }
}

/** The first result whose call does not precede it, or else the first call without a result; null: all match. */
export function unmatchedCall(request: Pick<ChatRequest, 'messages'>): { type: 'call' | 'result'; id: string } | null {
  const check = createCallCheck()
  for (const part of partsOf(request)) {
    if (part.type === 'tool_call') check.called(part.id)
    else if (part.type === 'tool_result' && !check.answered(part.id)) return { type: 'result', id: part.id }
  }
  const [id] = check.unanswered()
  return id === undefined ? null : { type: 'call', id }
}
