import { describe, expect, it } from 'vitest'
import { compileSchema, violation } from '#shared/json/schema.ts'
import { blogTopics } from './blog-topics.ts'
import type { CheckOutcome } from './define.ts'
import { jobs } from './index.ts'
import { plainWords } from './plain-words.ts'
import { resultFits } from './result-fits.ts'

const reasonOf = (checked: CheckOutcome) => (checked.ok ? null : checked.reason)
const wrongInput = (input: unknown) => violation(compileSchema(blogTopics.input as never), input)
const unfenced = (text: string) => text.replace(/<([a-z]+-[0-9a-f]{16,64})>\n[\s\S]*?\n<\/\1>/g, '…')

const INPUT = { interests: ['bees'], past_topics: ['Bees: a Checklist!'], count: 2 }
const topics = (...titles: string[]) => ({ topics: titles.map(title => ({ title, angle: 'Because.' })) })
const check = (value: unknown, input: unknown = INPUT) =>
  blogTopics.check(typeof value === 'string' ? value : JSON.stringify(value), input, '') as CheckOutcome
type Topics = ReturnType<typeof topics>
const titlesOf = (result: unknown) => (result as Topics).topics.map(one => one.title)

describe('blog-topics', () => {
  it('is registered under its name', () => expect(jobs.get('blog-topics')).toBe(blogTopics))

  it('has a valid example with a possible result', async () => {
    const { input } = blogTopics.example
    expect(wrongInput(input)).toBeNull()
    expect(blogTopics.validate(input)).toBeNull()
    expect(violation(compileSchema(blogTopics.result as never), blogTopics.exampleResult)).toBeNull()
    expect(await resultFits(blogTopics, input, blogTopics.exampleResult)).toBe(true)
  })

  it('keeps client text between tags and out of the instructions', () => {
    const input = { interests: ['MARK1', 'MARK2'], past_topics: ['MARK3'], audience: 'MARK4', count: 3 }
    const { system, messages } = blogTopics.prompts[3]!(input)
    const content = messages.map(one => one.content).join('\n')
    for (const mark of ['MARK1', 'MARK2', 'MARK3', 'MARK4']) expect(content).toContain(mark)
    expect(`${system}${unfenced(content)}`).not.toContain('MARK')
    expect(unfenced(content)).toContain('exactly 3 topic(s)')
  })

  it('requests the given number of topics, five by default', () => {
    const size = (input: object) =>
      (blogTopics.prompts[3]!(input).schema as { properties: { topics: { minItems: number; maxItems: number } } })
        .properties.topics
    expect(size(INPUT)).toMatchObject({ minItems: 2, maxItems: 2 })
    expect(size({ interests: ['bees'] })).toMatchObject({ minItems: 5, maxItems: 5 })
  })

  it('accepts distinct new topics, with or without a Markdown fence', () => {
    const good = topics('Why bees dance', 'A hive in winter')
    expect(check(good)).toEqual({ ok: true, result: good })
    expect(check(`\`\`\`json\n${JSON.stringify(good)}\n\`\`\``)).toEqual({ ok: true, result: good })
  })

  it.each([
    ['prose', 'Here are two: bees and hives', /^the answer is not JSON$/],
    ['JSON of another shape', '["a","b"]', /must be object/],
    ['no angle', { topics: [{ title: 'a' }, { title: 'b' }] }, /'angle'/],
    ['an additional field', { ...topics('a', 'b'), note: 'hi' }, /additional properties/],
    ['too few topics', topics('a'), /fewer than 2/],
    ['too many topics', topics('a', 'b', 'c'), /more than 2/],
    ['a topic twice', topics('Why bees dance', 'why BEES dance?'), /^topic 2 repeats/],
    ['a past topic', topics('Why bees dance', 'Bees — a checklist'), /^topic 2 is one of the past topics$/],
    ['a title without words', topics('Why bees dance', '!?'), /^the title of topic 2 has no words$/],
    [
      'an angle without words',
      { topics: [{ title: 'a', angle: '…' }, ...topics('b').topics] },
      /^the angle of topic 1/,
    ],
  ])('refuses %s, with the reason', (_, value, reason) => {
    expect(reasonOf(check(value))).toMatch(reason)
  })

  it('does not repeat text of the model in a reason', () => {
    expect(reasonOf(check(topics('MARK', 'MARK')))).not.toContain('MARK')
  })

  it('creates topics for every interest by rules, which pass its own check', () => {
    const input = { interests: ['bees', 'honey', 'wax'], count: 3 }
    const made = blogTopics.rules(input)
    expect(check(made as object, input)).toEqual({ ok: true, result: made })
    for (const interest of input.interests) {
      expect(titlesOf(made).filter(title => title.toLowerCase().includes(interest))).toHaveLength(1)
    }
    const forms = titlesOf(made).map(title => title.toLowerCase().replace(/bees|honey|wax/, '…'))
    expect(new Set(forms).size).toBe(3)
    expect(titlesOf(blogTopics.rules({ interests: ['bees'] }))).toHaveLength(5)
  })

  it('skips past topics by rules, and returns null if too few are left', () => {
    const all: string[] = []
    for (let made = blogTopics.rules({ interests: ['bees'], count: 1 }); made; ) {
      const [title] = titlesOf(made)
      expect(all.map(plainWords)).not.toContain(plainWords(title!))
      all.push(title!)
      made = blogTopics.rules({ interests: ['bees'], count: 1, past_topics: all.map(one => one.toUpperCase()) })
    }
    expect(all.length).toBeGreaterThanOrEqual(10)
    expect(blogTopics.rules({ interests: ['bees'], count: 2, past_topics: all.slice(1) })).toBeNull()
  })

  it('ignores repeated interests', () => {
    const made = blogTopics.rules({ interests: ['bees', 'Bees', 'bees!'], count: 10 })
    const words = titlesOf(made).map(plainWords)
    expect(new Set(words).size).toBe(10)
  })

  it.each([
    ['no interests', { interests: [] }, /^\/interests/],
    ['too many interests', { interests: Array(21).fill('a') }, /^\/interests/],
    ['an interest of two lines', { interests: ['a\nb'] }, /^\/interests\/0/],
    ['a long interest', { interests: ['a'.repeat(81)] }, /^\/interests\/0/],
    ['too many past topics', { interests: ['a'], past_topics: Array(101).fill('a') }, /^\/past_topics/],
    ['no topics wanted', { interests: ['a'], count: 0 }, /^\/count/],
    ['too many wanted', { interests: ['a'], count: 11 }, /^\/count/],
    ['an unknown field', { interests: ['a'], prompt: 'b' }, /additional properties/],
  ])('does not accept %s', (_, input, fault) => {
    expect(wrongInput(input)).toMatch(fault)
  })

  it('refuses an interest without a word, and names it', () => {
    expect(blogTopics.validate({ interests: ['bees', ' …'] })).toMatchObject({ field: '/input/interests/1' })
  })

  it('is cached for a day, and a stale fallback for a week', () => {
    expect(blogTopics).toMatchObject({ cache: { ttlSeconds: 86_400, staleSeconds: 604_800 }, fallback: 'rules' })
  })

  it('reads as one topic a line', () => {
    expect(blogTopics.text(topics('A', 'B'))).toBe('A: Because.\nB: Because.')
  })
})
