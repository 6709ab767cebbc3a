import { describe, expect, it } from 'vitest'
import { compileSchema, violation } from '#shared/json/schema.ts'
import { blogOutline } from './blog-outline.ts'
import type { CheckOutcome } from './define.ts'
import { jobs } from './index.ts'
import { resultFits } from './result-fits.ts'

const reasonOf = (checked: CheckOutcome) => (checked.ok ? null : checked.reason)
const wrongInput = (input: unknown) => violation(compileSchema(blogOutline.input as never), input)
const unfenced = (text: string) => text.replace(/<([a-z]+-[0-9a-f]{16,64})>\n[\s\S]*?\n<\/\1>/g, '…')

type Outline = { title: string; sections: { heading: string; points: string[] }[] }
const INPUT = { topic: 'bees', length: 'short' }
const outline = (...headings: string[]): Outline => ({
  title: 'Bees',
  sections: headings.map(heading => ({ heading, points: ['A point.'] })),
})
const check = (value: unknown, input: unknown = INPUT) =>
  blogOutline.check(typeof value === 'string' ? value : JSON.stringify(value), input, '') as CheckOutcome

describe('blog-outline', () => {
  it('is registered under its name', () => expect(jobs.get('blog-outline')).toBe(blogOutline))

  it('has a valid example with a possible result', async () => {
    const { input } = blogOutline.example
    expect(wrongInput(input)).toBeNull()
    expect(blogOutline.validate(input)).toBeNull()
    expect(violation(compileSchema(blogOutline.result as never), blogOutline.exampleResult)).toBeNull()
    expect(await resultFits(blogOutline, input, blogOutline.exampleResult)).toBe(true)
  })

  it('keeps client text between tags and out of the instructions', () => {
    const input = { topic: 'MARK1', audience: 'MARK2', points: ['MARK3', 'MARK4'], length: 'long' }
    const { system, messages } = blogOutline.prompts[3]!(input)
    const content = messages.map(one => one.content).join('\n')
    for (const mark of ['MARK1', 'MARK2', 'MARK3', 'MARK4']) expect(content).toContain(mark)
    expect(`${system}${unfenced(content)}`).not.toContain('MARK')
    expect(unfenced(content)).toContain('8 to 12 sections')
  })

  it.each([
    ['short', 3, 5],
    ['medium', 5, 8],
    ['long', 8, 12],
    [undefined, 5, 8],
  ])('accepts as many sections as the length %s requires', (length, min, max) => {
    const input = { topic: 'bees', ...(length && { length }) }
    const ok = (size: number) => check(outline(...Array.from({ length: size }, (_, n) => `Part ${n}`)), input).ok
    expect([min - 1, min, max, max + 1].map(ok)).toEqual([false, true, true, false])
  })

  it('accepts a valid answer unchanged', () => {
    const good = outline('Why', 'How', 'Then')
    expect(check(good)).toEqual({ ok: true, result: good })
  })

  it.each([
    ['prose', 'First: why. Then: how.', /^the answer is not JSON$/],
    ['JSON of another shape', '{"outline":[]}', /must have required property/],
    ['no title', { sections: outline('a', 'b', 'c').sections }, /'title'/],
    ['an additional field', { ...outline('a', 'b', 'c'), note: 'hi' }, /additional properties/],
    ['too few sections', outline('a', 'b'), /fewer than 3/],
    [
      'a section without points',
      { title: 'a', sections: [{ heading: 'a', points: [] }, ...outline('b', 'c').sections] },
      /fewer than 1/,
    ],
    ['a heading twice', outline('How it works', 'Why', 'How it works!'), /^section 3 repeats the heading/],
    ['a title without words', { ...outline('a', 'b', 'c'), title: '—' }, /^the title has no words$/],
    ['a heading without words', outline('a', '…', 'c'), /^the heading of section 2/],
    [
      'a point without words',
      { title: 'a', sections: [...outline('a', 'b').sections, { heading: 'c', points: ['-'] }] },
      /^a point of section 3/,
    ],
  ])('refuses %s, with the reason', (_, value, reason) => {
    expect(reasonOf(check(value))).toMatch(reason)
  })

  it.each(['short', 'medium', 'long'])('has a template for a %s post with any points', length => {
    for (let size = 0; size <= 10; size++) {
      const points = Array.from({ length: size }, (_, n) => `Point number ${n}`)
      const input = { topic: 'how bees dance', length, points }
      const made = blogOutline.rules(input) as Outline
      expect(check(made, input)).toEqual({ ok: true, result: made })
      expect(made.title).toBe('How bees dance')
      const words = JSON.stringify(made)
      for (const point of points) expect(words).toContain(JSON.stringify(point))
    }
  })

  it('omits repeated points, and points that equal a section of the template', () => {
    const input = { topic: 'bees', length: 'medium', points: ['Honey', 'honey!', 'why this matters', 'The basics'] }
    const made = blogOutline.rules(input) as Outline
    expect(check(made, input).ok).toBe(true)
    expect(made.sections.filter(one => one.heading.toLowerCase().startsWith('honey'))).toHaveLength(1)
  })

  it.each([
    ['no topic', {}, /'topic'/],
    ['a topic of two lines', { topic: 'a\nb' }, /^\/topic/],
    ['a long topic', { topic: 'a'.repeat(201) }, /^\/topic/],
    ['another length', { topic: 'a', length: 'huge' }, /^\/length/],
    ['too many points', { topic: 'a', points: Array(11).fill('a') }, /^\/points/],
    ['an unknown field', { topic: 'a', prompt: 'b' }, /additional properties/],
  ])('does not accept %s', (_, input, fault) => {
    expect(wrongInput(input)).toMatch(fault)
  })

  it('refuses a topic or point without a word, and names the field', () => {
    expect(blogOutline.validate({ topic: '?' })).toMatchObject({ field: '/input/topic' })
    expect(blogOutline.validate({ topic: 'a', points: ['b', ' '] })).toMatchObject({ field: '/input/points/1' })
  })

  it('falls back to its rules', () => expect(blogOutline.fallback).toBe('rules'))

  it('reads as Markdown', () => {
    expect(blogOutline.text(outline('Why', 'How'))).toBe('Bees\n## Why\n- A point.\n## How\n- A point.')
  })
})
