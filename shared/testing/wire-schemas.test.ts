import { expect, test } from 'vitest'
import { wireFault } from './wire-schemas.ts'

const COMPLETION = {
  id: 'chatcmpl-1',
  object: 'chat.completion',
  created: 1,
  model: 'gpt-5.4-mini',
  choices: [
    {
      index: 0,
      message: { role: 'assistant', content: 'Hello', refusal: null },
      logprobs: null,
      finish_reason: 'stop',
    },
  ],
}

test('a completion of OpenAI’s API has no fault', () => {
  expect(wireFault('openAiCompletion', COMPLETION)).toBeNull()
})

test.each([
  ['a missing field', { ...COMPLETION, created: undefined }, 'created'],
  ['a field that OpenAI does not describe', { ...COMPLETION, sluice: 1 }, 'sluice'],
  ['a value that OpenAI does not list', { ...COMPLETION, object: 'text_completion' }, '/object'],
])('%s is a fault', (_, completion, named) => {
  expect(wireFault('openAiCompletion', JSON.parse(JSON.stringify(completion)))).toContain(named)
})
