import type { WireFormat } from '../wire.ts'
import { renderAnswer } from './answer.ts'
import { readAnswer, readStream } from './read.ts'
import { losses, render } from './render.ts'
import { parse } from './request.ts'
import { renderStream } from './stream.ts'

/** OpenAI's `POST /v1/responses`: https://platform.openai.com/docs/api-reference/responses */
export const openAiResponses: WireFormat = {
  wire: 'openai-responses',
  parse,
  render,
  losses,
  readAnswer,
  readStream,
  renderAnswer,
  renderStream,
}
