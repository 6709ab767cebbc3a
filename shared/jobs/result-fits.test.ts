import { describe, expect, it } from 'vitest'
import { generate } from './generate.ts'
import { jobs } from './index.ts'
import { resultFits } from './result-fits.ts'

const schema = { type: 'object', properties: { text: { type: 'string' } }, required: ['text'] }
const titles = { type: 'object', properties: { titles: { type: 'array' } }, required: ['titles'] }

describe('a stored result', () => {
  it.each([
    ['the text of a model', { prompt: 'Hi' }, { text: 'Hello' }],
    ['an object that matches the schema', { prompt: 'Hi', schema: titles }, { titles: ['a'] }],
    ['an object with a text, if the schema requires it', { prompt: 'Hi', schema }, { text: 'Hello' }],
    ['any value that the schema allows', { prompt: 'Hi', schema: {} }, 5],
  ])('fits: %s', async (_, input, result) => {
    expect(await resultFits(generate, input, result)).toBe(true)
  })

  it.each([
    ['no text', { prompt: 'Hi' }, { text: '' }],
    ['an additional field', { prompt: 'Hi' }, { text: 'Hello', more: 1 }],
    ['an object instead of text', { prompt: 'Hi' }, { titles: ['a'] }],
    ['a string', { prompt: 'Hi' }, 'Hello'],
    ['null', { prompt: 'Hi', schema: {} }, null],
    ['nothing', { prompt: 'Hi', schema: {} }, undefined],
    ['text instead of an object', { prompt: 'Hi', schema: titles }, { text: 'Hello' }],
  ])('does not fit: %s', async (_, input, result) => {
    expect(await resultFits(generate, input, result)).toBe(false)
  })

  // Kinds with a result for a missing verdict have no precomputed answers.
  it('may be the example of every kind without a result for a missing verdict', async () => {
    for (const job of jobs.values()) {
      if (job.resultWithoutVerdict !== null) continue
      expect(await resultFits(job, job.example.input, job.exampleResult), job.kind).toBe(true)
    }
  })
})
