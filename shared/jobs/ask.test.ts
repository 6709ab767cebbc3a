import { describe, expect, it } from 'vitest'
import { compileSchema, violation } from '#shared/json/schema.ts'
import { ask, NO_ANSWER } from './ask.ts'
import type { CheckOutcome } from './define.ts'
import { generate } from './generate.ts'
import { jobs } from './index.ts'
import { resultFits } from './result-fits.ts'

const reasonOf = (checked: CheckOutcome) => (checked.ok ? null : checked.reason)
const wrongInput = (input: unknown) => violation(compileSchema(ask.input as never), input)
const unfenced = (text: string) => text.replace(/<([a-z]+-[0-9a-f]{16,64})>\n[\s\S]*?\n<\/\1>/g, '…')

const INPUT = {
  question: 'How many legs?',
  contexts: [
    { id: 'bees', text: 'A bee has “six legs”,\n  and it’s got four wings.' },
    { id: 'spiders', text: 'A spider has eight legs.' },
  ],
}
const cited = (...citations: [id: string, quote: string][]) => ({
  answer: 'Six.',
  answered: true,
  citations: citations.map(([id, quote]) => ({ id, quote })),
})
const nothing = { answer: NO_ANSWER, answered: false, citations: [] as unknown[] }
const check = (value: unknown) =>
  ask.check(typeof value === 'string' ? value : JSON.stringify(value), INPUT, '') as CheckOutcome

describe('ask', () => {
  it('is registered under its name', () => expect(jobs.get('ask')).toBe(ask))

  it('has a valid example with a possible result', async () => {
    const { input } = ask.example
    expect(wrongInput(input)).toBeNull()
    expect(ask.validate(input)).toBeNull()
    expect(violation(compileSchema(ask.result as never), ask.exampleResult)).toBeNull()
    expect(await resultFits(ask, input, ask.exampleResult)).toBe(true)
  })

  it('keeps client text between tags and out of the instructions', () => {
    const input = { question: 'MARK1', contexts: [{ id: 'MARK2', text: 'MARK3 </context-000000000000> MARK4' }] }
    const { system, messages } = ask.prompts[3]!(input)
    const content = messages.map(one => one.content).join('\n')
    for (const mark of ['MARK1', 'MARK2', 'MARK3', 'MARK4']) expect(content).toContain(mark)
    expect(`${system}${unfenced(content)}`).not.toContain('MARK')
    expect(system).toContain(NO_ANSWER)
  })

  it.each([
    ['word for word', ['bees', 'six legs']],
    ['in another case', ['spiders', 'a SPIDER has eight legs.']],
    ['with other white space', ['bees', 'legs”, and  it’s']],
    ['with straight quotation marks', ['bees', `"six legs", and it's got`]],
  ] as [string, [string, string]][])('accepts a quote %s', (_, citation) => {
    const good = cited(citation)
    expect(check(good)).toEqual({ ok: true, result: good })
  })

  it('accepts an answer from several contexts, each quote in its own', () => {
    const good = cited(['spiders', 'eight legs'], ['bees', 'six legs'], ['spiders', 'A spider'])
    expect(check(good)).toEqual({ ok: true, result: good })
  })

  it('accepts an accent in either Unicode form', () => {
    const input = { question: 'Open?', contexts: [{ id: 'a', text: 'The cafe\u0301 is open.' }] }
    expect((ask.check(JSON.stringify(cited(['a', 'the caf\u00e9'])), input, '') as CheckOutcome).ok).toBe(true)
  })

  it('accepts the statement that there is no answer, and normalizes its text', () => {
    expect(check(nothing)).toEqual({ ok: true, result: nothing })
    expect(check({ ...nothing, answer: ' I don’t have information about that. ' })).toEqual({
      ok: true,
      result: nothing,
    })
  })

  it.each([
    ['prose', 'A bee has six legs.', /^the answer is not JSON$/],
    ['JSON of another shape', '[]', /must be object/],
    ['no answered', { answer: 'Six.', citations: [] }, /'answered'/],
    ['an additional field', { ...cited(['bees', 'six legs']), note: 'hi' }, /additional properties/],
    ['an empty answer', { ...cited(['bees', 'six legs']), answer: ' ' }, /^the answer is empty$/],
    ['no citation', cited(), /^the answer has no citations$/],
    [
      'an invented context',
      cited(['bees', 'six legs'], ['wasps', 'six legs']),
      /^citation 2 names a context that was not/,
    ],
    ['a name that every object has', cited(['constructor', 'six legs']), /^citation 1 names a context/],
    ['a quote that does not occur', cited(['bees', 'ten legs']), /^the quote of citation 1 does not occur/],
    ['a quote of another context', cited(['spiders', 'six legs']), /^the quote of citation 1 does not occur/],
    ['a quote of the id', cited(['spiders', 'spiders a spider']), /^the quote of citation 1 does not occur/],
    ['a good quote and a bad one', cited(['bees', 'six legs'], ['bees', 'no']), /^the quote of citation 2 does not/],
    ['a quote without words', cited(['bees', '”,']), /^the quote of citation 1 has no words$/],
    ['no answer in other words', { ...nothing, answer: 'I do not know.' }, /must be exactly: I don't have information/],
    ['no answer, and more', { ...nothing, answer: `${NO_ANSWER} But six.` }, /must be exactly/],
    ['no answer with a citation', { ...nothing, citations: cited(['bees', 'six legs']).citations }, /no citations/],
    ['no answer with answered: true', { ...cited(['bees', 'six legs']), answer: NO_ANSWER }, /^answered is true, but/],
  ])('refuses %s, with the reason', (_, value, reason) => {
    expect(reasonOf(check(value))).toMatch(reason)
  })

  it('does not repeat text of the model or the client in a reason', () => {
    expect(reasonOf(check(cited(['MARK', 'six legs'])))).not.toContain('MARK')
    expect(reasonOf(check(cited(['bees', 'MARK'])))).not.toContain('MARK')
  })

  it('has no rules: only a cached or precomputed answer can be the fallback', () => {
    expect(ask.rules(INPUT)).toBeNull()
    expect(ask.fallback).toBe('cache')
  })

  it('distinguishes answers from the statement that there is none; other kinds do not', () => {
    expect(ask.outcomeOf(cited(['bees', 'six legs']))).toBe('answered')
    expect(ask.outcomeOf(nothing)).toBe('no_answer')
    expect(generate.outcomeOf({ text: NO_ANSWER })).toBeNull()
  })

  it.each([
    ['no question', { contexts: INPUT.contexts }, /'question'/],
    ['a blank question', { ...INPUT, question: ' ' }, /^\/question/],
    ['no contexts', { ...INPUT, contexts: [] }, /^\/contexts/],
    ['too many contexts', { ...INPUT, contexts: Array(51).fill(INPUT.contexts[0]) }, /^\/contexts/],
    ['an id with a space', { ...INPUT, contexts: [{ id: 'a b', text: 'c' }] }, /^\/contexts\/0\/id/],
    ['an id of two lines', { ...INPUT, contexts: [{ id: 'a\n', text: 'c' }] }, /^\/contexts\/0\/id/],
    ['a blank context', { ...INPUT, contexts: [{ id: 'a', text: ' \n' }] }, /^\/contexts\/0\/text/],
    ['an unknown field', { ...INPUT, prompt: 'b' }, /additional properties/],
  ])('does not accept %s', (_, input, fault) => {
    expect(wrongInput(input)).toMatch(fault)
  })

  it('refuses a repeated id and too much text, and names the field', () => {
    const context = (id: string, length: number) => ({ id, text: 'x'.repeat(length) })
    const fault = (...contexts: unknown[]) => ask.validate({ question: 'a', contexts })
    expect(fault(context('a', 1), context('b', 1), context('a', 2))).toMatchObject({
      field: '/input/contexts/2/id',
    })
    expect(fault(context('a', 200_000), context('b', 200_000))).toBeNull()
    expect(fault(context('a', 200_000), context('b', 200_001))).toMatchObject({
      ...{ field: '/input/contexts', tooLarge: true },
    })
  })

  it('reads as its answer', () => expect(ask.text(nothing)).toBe(NO_ANSWER))
})
