import { describe, expect, it } from 'vitest'
import { generate } from './generate.ts'
import { jobs } from './index.ts'
import { suits } from './suits.ts'

const schema = { type: 'object', properties: { text: { type: 'string' } }, required: ['text'] }
const titles = { type: 'object', properties: { titles: { type: 'array' } }, required: ['titles'] }

describe('a result that was written down', () => {
  it.each([
    ['the text of a model', { prompt: 'Hi' }, { text: 'Hello' }],
    ['an object as the schema wants it', { prompt: 'Hi', schema: titles }, { titles: ['a'] }],
    ['an object with a text, if a schema wants that', { prompt: 'Hi', schema }, { text: 'Hello' }],
    ['whatever a schema allows', { prompt: 'Hi', schema: {} }, 5],
  ])('suits: %s', async (_, input, result) => {
    expect(await suits(generate, input, result)).toBe(true)
  })

  it.each([
    ['no text', { prompt: 'Hi' }, { text: '' }],
    ['something beside the text', { prompt: 'Hi' }, { text: 'Hello', more: 1 }],
    ['an object where text is wanted', { prompt: 'Hi' }, { titles: ['a'] }],
    ['a string', { prompt: 'Hi' }, 'Hello'],
    ['null', { prompt: 'Hi', schema: {} }, null],
    ['nothing', { prompt: 'Hi', schema: {} }, undefined],
    ['text where an object is wanted', { prompt: 'Hi', schema: titles }, { text: 'Hello' }],
  ])('does not suit: %s', async (_, input, result) => {
    expect(await suits(generate, input, result)).toBe(false)
  })

  // One that has a verdict for want of an answer never has one that was written down.
  it('may be the example of every kind that can end with one', async () => {
    for (const job of jobs.values()) {
      if (job.noVerdict !== null) continue
      expect(await suits(job, job.example.input, job.exampleResult), job.kind).toBe(true)
    }
  })
})
