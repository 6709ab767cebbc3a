/** Joins the chunks of a stream to the completion that the provider would have sent without streaming, unknown fields included. */

type Fields = Record<string, unknown>
type Choice = { index: number; message: Fields; finish_reason: unknown; logprobs?: unknown }

/** Texts that are complete in one chunk. All others arrive in pieces. */
const WHOLE = new Set(['id', 'type', 'name', 'role', 'format'])
/** They describe the chunk, not the completion. */
const OF_CHUNK = new Set(['choices', 'object', 'obfuscation'])

export function createAccumulator() {
  const completion: Fields = { id: '', object: 'chat.completion' }
  const choices = new Map<number, Choice>()

  return {
    add(chunk: Fields): void {
      for (const [name, value] of Object.entries(chunk))
        if (!OF_CHUNK.has(name) && value !== null && name !== '__proto__') completion[name] = value
      for (const { index = 0, delta, finish_reason, logprobs } of chunk.choices as StreamedChoice[]) {
        let choice = choices.get(index)
        if (!choice) {
          choice = { index, message: { role: 'assistant', content: null, refusal: null }, finish_reason: null }
          choices.set(index, choice)
        }
        if (delta) merge(choice.message, delta)
        if (logprobs) merge(choice as unknown as Fields, { logprobs })
        choice.finish_reason = finish_reason ?? choice.finish_reason
      }
    },
    completion(): Fields {
      const all = [...choices.values()].sort((a, b) => a.index - b.index)
      return { ...completion, choices: all.map(one => ({ logprobs: null, ...one, message: finished(one.message) })) }
    },
  }
}

type StreamedChoice = { index?: number; delta?: Fields | null; finish_reason?: unknown; logprobs?: Fields | null }

/** The index of a call is a field of chunks only. */
function finished(message: Fields): Fields {
  const { tool_calls } = message
  if (!Array.isArray(tool_calls)) return message
  return { ...message, tool_calls: tool_calls.map(({ index: _, ...call }: Fields) => call) }
}

function merge(into: Fields, delta: Fields): void {
  for (const [name, value] of Object.entries(delta)) {
    // Its value would become the prototype.
    if (name === '__proto__') continue
    const before = Object.hasOwn(into, name) ? into[name] : undefined
    if (value === null || value === undefined) into[name] ??= null
    else if (Array.isArray(value)) {
      const items = Array.isArray(before) ? before : []
      for (const item of value) append(items, item)
      into[name] = items
    } else if (isObject(value)) {
      const fields = isObject(before) ? before : {}
      merge(fields, value)
      into[name] = fields
    } else
      into[name] = typeof value === 'string' && typeof before === 'string' && !WHOLE.has(name) ? before + value : value
  }
}

/** Items with an index, such as tool calls, arrive in pieces too. Some servers send whole calls that all have index 0. */
function append(items: unknown[], item: unknown): void {
  const { index, id } = Object(item) as { index?: unknown; id?: unknown }
  const known = typeof index === 'number' ? items.findLast(one => Object(one).index === index) : undefined
  if (isObject(known) && isObject(item) && (!id || known.id === id)) merge(known, item)
  else if (isObject(item)) {
    const copy: Fields = {}
    merge(copy, item)
    items.push(copy)
  } else items.push(item)
}

const isObject = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
