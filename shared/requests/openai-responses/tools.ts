import {
  among,
  type Fields,
  fields,
  flag,
  invalidValue,
  isAbsent,
  list,
  optional,
  refuseTool,
  required,
  text,
} from '../openai-fields.ts'
import type { Tool, ToolChoice } from '../request.ts'
import { createToolCheck } from '../tools.ts'

const FUNCTION_FIELDS = new Set(['type', 'name', 'description', 'parameters', 'strict'])

/** Hosted and custom tools need a provider with this wire format. */
export function readTools(tools: unknown[]): { tools: Tool[]; untranslated: string[] } {
  const read: Tool[] = []
  const untranslated: string[] = []
  const check = createToolCheck()
  for (const [i, one] of tools.entries()) {
    const at = `tools[${i}]`
    const tool = fields(one, at)
    if (required(tool.type, `${at}.type`, text) !== 'function') {
      untranslated.push(at)
      continue
    }
    const named = readFunction(tool, at)
    refuseTool(check(named), at)
    read.push(named)
    for (const [name, value] of Object.entries(tool))
      if (!FUNCTION_FIELDS.has(name) && !isAbsent(value)) untranslated.push(`${at}.${name}`)
  }
  return { tools: read, untranslated }
}

function readFunction(tool: Fields, at: string): Tool {
  const name = required(tool.name, `${at}.name`, text)
  const description = optional(tool.description, `${at}.description`, text)
  const parameters = optional(tool.parameters, `${at}.parameters`, fields)
  const strict = optional(tool.strict, `${at}.strict`, flag)
  return {
    name,
    ...(description !== undefined && { description }),
    ...(parameters && { parameters }),
    ...(strict !== undefined && { strict }),
  }
}

const MODES = ['none', 'auto', 'required'] as const

type Choice = {
  choice?: ToolChoice
  /** The tools that the choice allows; absent: all. */
  tools?: Tool[]
  untranslated: string[]
}

export function readToolChoice(asked: unknown, tools: readonly Tool[]): Choice {
  if (isAbsent(asked)) return { untranslated: [] }
  if (typeof asked === 'string') return { choice: among(MODES)(asked, 'tool_choice'), untranslated: [] }
  const { type, name, mode, tools: allowed } = fields(asked, 'tool_choice')
  switch (required(type, 'tool_choice.type', text)) {
    case 'function':
      return { choice: { name: known(name, 'tool_choice.name', tools) }, untranslated: [] }
    case 'allowed_tools':
      return allow(allowed, required(mode, 'tool_choice.mode', among(['auto', 'required'])), tools)
    default:
      return { untranslated: ['tool_choice'] }
  }
}

function allow(asked: unknown, choice: ToolChoice, tools: readonly Tool[]): Choice {
  const allowed = required(asked, 'tool_choice.tools', list).map((one, i) => fields(one, `tool_choice.tools[${i}]`))
  if (allowed.some(one => one.type !== 'function')) return { untranslated: ['tool_choice'] }
  const names = new Set(allowed.map((one, i) => known(one.name, `tool_choice.tools[${i}].name`, tools)))
  return { choice, tools: tools.filter(one => names.has(one.name)), untranslated: [] }
}

function known(value: unknown, param: string, tools: readonly Tool[]): string {
  const name = required(value, param, text)
  return tools.some(one => one.name === name)
    ? name
    : invalidValue(
        name,
        param,
        tools.map(one => one.name),
      )
}
