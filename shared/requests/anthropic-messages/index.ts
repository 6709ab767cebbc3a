import type { WireFormat } from '../wire.ts'
import { parse } from './parse.ts'
import { readAnswer } from './read.ts'
import { readStream } from './read-stream.ts'
import { losses, render } from './render.ts'
import { renderAnswer } from './render-answer.ts'
import { renderStream } from './render-stream.ts'

/** Anthropic's `POST /v1/messages`: https://docs.claude.com/en/api/messages */
export const anthropicMessages: WireFormat = {
  wire: 'anthropic-messages',
  parse,
  render,
  losses,
  readAnswer,
  readStream,
  renderAnswer,
  renderStream,
}
