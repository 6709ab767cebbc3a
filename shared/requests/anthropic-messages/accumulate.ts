import type { Fields } from '../openai-fields.ts'

/** The field of a block that the deltas of a type continue. */
const TEXT_FIELDS: Record<string, string> = {
  text_delta: 'text',
  thinking_delta: 'thinking',
  signature_delta: 'signature',
}

/** Joins the events of a stream to the message that the provider would have sent without streaming, unknown fields included. */
export function createAccumulator() {
  let message: Fields = {}
  const blocks: Fields[] = []
  /** The input of tool calls, which arrives as pieces of JSON. */
  const inputs = new Map<number, string>()

  function addDelta(index: number, delta: Fields): void {
    const block = blocks[index]
    if (!block) return
    const field = TEXT_FIELDS[String(delta.type)]
    if (field) block[field] = `${block[field] ?? ''}${delta[field] ?? ''}`
    else if (delta.type === 'input_json_delta')
      inputs.set(index, `${inputs.get(index) ?? ''}${delta.partial_json ?? ''}`)
    else if (delta.type === 'citations_delta')
      block.citations = [...(Array.isArray(block.citations) ? block.citations : []), delta.citation]
  }

  return {
    add(event: Fields): void {
      const index = Number(event.index ?? 0)
      switch (event.type) {
        case 'message_start':
          message = { ...(event.message as Fields) }
          return
        case 'content_block_start':
          blocks[index] = { ...(event.content_block as Fields) }
          return
        case 'content_block_delta':
          addDelta(index, event.delta as Fields)
          return
        case 'message_delta': {
          const counts = Object.entries(Object(event.usage)).filter(([, value]) => value !== null)
          message = {
            ...message,
            ...(event.delta as Fields),
            usage: { ...(message.usage as Fields), ...Object.fromEntries(counts) },
          }
        }
      }
    },
    message(): Fields {
      for (const [index, written] of inputs) {
        const block = blocks[index]
        if (block && written !== '') block.input = parsed(written)
      }
      return { ...message, content: blocks.filter(Boolean) }
    },
  }
}

function parsed(written: string): unknown {
  try {
    return JSON.parse(written)
  } catch {
    // The answer was cut off within the arguments.
    return {}
  }
}
