import type { WireFormat } from '../wire.ts'
import { parse } from './parse.ts'
import { readAnswer } from './read-answer.ts'
import { readStream } from './read-stream.ts'
import { losses, render } from './render.ts'
import { renderAnswer } from './render-answer.ts'
import { renderStream } from './render-stream.ts'

/** OpenAI's POST /v1/chat/completions, which most other servers speak too. */
export const openaiChat: WireFormat = {
  wire: 'openai-chat',
  parse,
  render,
  losses,
  readAnswer,
  readStream,
  renderAnswer,
  renderStream,
}
