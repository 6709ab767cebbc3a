import { anthropicMessages } from './anthropic-messages/index.ts'
import { openaiChat } from './openai-chat/index.ts'
import { openAiResponses } from './openai-responses/index.ts'
import type { Wire } from './request.ts'
import type { WireFormat } from './wire.ts'

/** The wire formats, one line each. */
const registered: WireFormat[] = [openaiChat, openAiResponses, anthropicMessages]

const WIRE_FORMATS: ReadonlyMap<Wire, WireFormat> = new Map(registered.map(one => [one.wire, one]))

export function wireFormat(wire: Wire): WireFormat {
  const format = WIRE_FORMATS.get(wire)
  if (!format) throw new Error(`no format "${wire}"`)
  return format
}
