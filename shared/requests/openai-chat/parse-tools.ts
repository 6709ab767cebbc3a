import {
  among,
  type Fields,
  fault,
  fields,
  flag,
  isFields,
  list,
  optional,
  refuseTool,
  required,
  text,
} from '../openai-fields.ts'
import type { ChatRequest, Tool, ToolChoice } from '../request.ts'
import { createToolCheck } from '../tools.ts'

type ToolFields = Pick<ChatRequest, 'tools' | 'toolChoice' | 'parallelToolCalls'>

/**
 * Reads tools and the choice among them, in both notations: `functions` and `function_call` are the older names.
 * @param untranslated receives tools that only OpenAI knows
 */
export function readTools(body: Fields, untranslated: string[]): ToolFields {
  const check = createToolCheck()
  const tools = [...currentTools(body, untranslated, check), ...olderTools(body, check)]
  const { choice, allowed } = readChoice(body, untranslated)
  if (typeof choice === 'object' && !tools.some(one => one.name === choice.name))
    fault(
      'invalid_value',
      'tool_choice',
      `Invalid value for 'tool_choice': no function named '${choice.name}' is specified in the 'tools' parameter.`,
    )
  if (choice === 'required' && tools.length === 0 && untranslated.length === 0)
    fault(
      'invalid_value',
      'tool_choice',
      "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.",
    )
  const offered = allowed ? tools.filter(one => allowed.has(one.name)) : tools
  // The older notation has only one call per answer.
  const parallel = body.functions ? false : optional(body.parallel_tool_calls, 'parallel_tool_calls', flag)
  if (offered.length === 0) return {}
  return {
    tools: offered,
    ...(choice !== undefined && { toolChoice: choice }),
    ...(parallel !== undefined && { parallelToolCalls: parallel }),
  }
}

type Check = ReturnType<typeof createToolCheck>

function currentTools(body: Fields, untranslated: string[], check: Check): Tool[] {
  return (optional(body.tools, 'tools', list) ?? []).flatMap((given, i) => {
    const path = `tools[${i}]`
    const tool = fields(given, path)
    if (required(tool.type, `${path}.type`, text) !== 'function') {
      untranslated.push(path)
      return []
    }
    return readFunction(required(tool.function, `${path}.function`, fields), `${path}.function`, check)
  })
}

const olderTools = (body: Fields, check: Check): Tool[] =>
  (optional(body.functions, 'functions', list) ?? []).map((one, i) =>
    readFunction(fields(one, `functions[${i}]`), `functions[${i}]`, check),
  )

function readFunction(given: Fields, path: string, check: Check): Tool {
  const description = optional(given.description, `${path}.description`, text)
  const parameters = optional(given.parameters, `${path}.parameters`, fields)
  const strict = optional(given.strict, `${path}.strict`, flag)
  const tool = {
    name: required(given.name, `${path}.name`, text),
    ...(description !== undefined && { description }),
    ...(parameters && { parameters }),
    ...(strict !== undefined && { strict }),
  }
  refuseTool(check(tool), path)
  return tool
}

const MODES = ['none', 'auto', 'required'] as const
type Choice = { choice?: ToolChoice; allowed?: Set<unknown> }

function readChoice(body: Fields, untranslated: string[]): Choice {
  const older = body.function_call
  const given = body.tool_choice ?? (isFields(older) ? { type: 'function', function: older } : older)
  const path = body.tool_choice ? 'tool_choice' : 'function_call'
  if (given === undefined || given === null) return {}
  if (!isFields(given)) return { choice: among(MODES)(given, path) }
  const type = required(given.type, `${path}.type`, text)
  if (type === 'function') {
    const { name } = required(given.function, `${path}.function`, fields)
    return { choice: { name: required(name, `${path}.function.name`, text) } }
  }
  if (type === 'allowed_tools') return readAllowed(required(given.allowed_tools, `${path}.allowed_tools`, fields))
  untranslated.push(path)
  return {}
}

/** A choice among some of the tools, which is the same as offering only these. */
function readAllowed(given: Fields): Choice {
  const path = 'tool_choice.allowed_tools'
  const tools = required(given.tools, `${path}.tools`, list)
  return {
    choice: required(given.mode, `${path}.mode`, among(['auto', 'required'])),
    allowed: new Set(tools.map((one, i) => optional(fields(one, `${path}.tools[${i}]`).function, path, fields)?.name)),
  }
}
