import { moderationInput, moderationJson, usesDefaultModel } from '#shared/moderation/openai.ts'
import type { Verdict } from '#shared/moderation/verdict.ts'
import { type Endpoint, idSuffix, rejection } from './define.ts'

export const moderations: Endpoint = {
  path: '/v1/moderations',
  kind: 'moderate',
  fields: { model: 'read', input: 'read' },
  params: { '/input/text': 'input', '/input/texts': 'input', '/options/model': 'model' },
  isPlaceholderModel: usesDefaultModel,

  read({ input }) {
    const read = moderationInput(input)
    return 'wrong' in read ? rejection('invalid_value', read.param, read.wrong) : { input: read.input, options: {} }
  },

  answer: line => moderationJson(idSuffix(line), line.model, line.result as Verdict),
}
