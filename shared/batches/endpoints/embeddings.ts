import { embeddingInput, embeddingsJson } from '#shared/embeddings/openai.ts'
import type { Vectors } from '#shared/jobs/embed.ts'
import { type Endpoint, rejection } from './define.ts'

export const embeddings: Endpoint = {
  path: '/v1/embeddings',
  kind: 'embed',
  fields: {
    model: 'read',
    input: 'read',
    dimensions: 'read',
    encoding_format: 'read',
    user: 'ignored',
  },
  params: {
    '/input/text': 'input',
    '/input/texts': 'input',
    '/input/dimensions': 'dimensions',
    '/input/encoding': 'encoding_format',
    '/options/model': 'model',
  },

  read(body) {
    const read = embeddingInput(body)
    return 'wrong' in read ? rejection('invalid_value', read.param, read.wrong) : { input: read.input, options: {} }
  },

  answer: line => embeddingsJson(line.model, line.result as Vectors, line.input_tokens),
}
