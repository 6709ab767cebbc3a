import type { Verdict } from '#shared/jobs/moderate.ts'
import { isUnnamed, moderationJson, textsOf } from '#shared/moderation/openai.ts'
import { type Endpoint, reject, tail } from './define.ts'

export const moderations: Endpoint = {
  path: '/v1/moderations',
  kind: 'moderate',
  fields: { model: 'read', input: 'read' },
  params: { '/input/texts': 'input', '/options/model': 'model' },
  isUnnamed,

  read({ input }) {
    const texts = textsOf(input)
    if (!texts)
      return reject('invalid_value', 'input', "'input' must be a text or a list of texts; images are not judged.")
    return { input: { texts }, options: {} }
  },

  answer: line => moderationJson(tail(line), line.model, line.result as Verdict),
}
