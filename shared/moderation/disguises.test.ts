import { describe, expect, it } from 'vitest'
import { moderate } from '#shared/jobs/moderate.ts'
import type { Verdict } from '#shared/moderation/verdict.ts'
import { DISGUISES, DIVISIONS, FORBIDDEN, LONG_AND_HARMLESS } from '#shared/testing/disguises.ts'
import { HARMLESS_TEXTS } from '#shared/testing/harmless-texts.ts'
import { filterOutput } from '#shared/text-rules/filter.ts'
import { PERSONAL_TYPES } from '#shared/text-rules/personal.ts'
import { CATEGORIES } from './categories.ts'

type Input = { text?: string; texts?: string[]; policy?: unknown }

/** A policy under which profanity counts. */
const policy = { name: 'polite', version: 1, rules: { thresholds: { profanity: { review: 0.5, block: 0.8 } } } }
const WORDS = FORBIDDEN.flatMap(one => one.word ?? [])

/** A model that recognizes harm only by plain words anywhere in the prompt. */
function answerOf(content: string, texts: number): string {
  const isHarmful = WORDS.some(word => content.toLowerCase().includes(word))
  const scores = Object.fromEntries(CATEGORIES.map(name => [name, isHarmful && name === 'violence' ? 1 : 0]))
  return JSON.stringify({ verdicts: Array(texts).fill({ scores, confidence: 1, reason: 'Read.' }) })
}

async function decide(given: Input, model = 'gpt-5-mini'): Promise<Verdict['decision']> {
  const input = { ...given, policy }
  const settled = moderate.answerByRules(input) as Verdict | null
  if (settled) return settled.decision
  const guard = moderate.promptFor(input, model)
  const prompt = guard ?? moderate.prompts[moderate.promptVersion]!(input)
  const content = prompt.messages.map(one => one.content).join('\n')
  const isHarmful = WORDS.some(word => content.toLowerCase().includes(word))
  const answer = guard ? (isHarmful ? 'unsafe\nS1' : 'safe') : answerOf(content, given.texts?.length ?? 1)
  const checked = await moderate.check(answer, input, model)
  expect(checked.ok).toBe(true)
  return ((checked as { result: Verdict }).result as Verdict).decision
}

const cases = FORBIDDEN.flatMap(({ text }) =>
  Object.entries(DISGUISES).map(([name, disguise]) => ({ name, text, disguised: disguise(text) })),
)

describe('disguised texts', () => {
  it('number at least two hundred', () => expect(cases.length).toBeGreaterThan(200))

  it.each(FORBIDDEN)('are not allowed in plain form: $text', async ({ text }) => {
    expect(await decide({ text })).not.toBe('allow')
    expect(await decide({ text }, 'llama-guard3:8b')).not.toBe('allow')
  })

  it.each(cases)('$name are not allowed: $text', async ({ disguised }) => {
    expect(await decide({ text: disguised })).not.toBe('allow')
    expect(await decide({ text: disguised }, 'llama-guard3:8b')).not.toBe('allow')
  })

  it.each(cases.filter((_, n) => n % 3 === 0))(
    '$name are not allowed amid harmless text: $text',
    async ({ disguised }) => {
      const texts = [`${HARMLESS_TEXTS[0]}\n${disguised}\n${HARMLESS_TEXTS[1]}`]
      expect(await decide({ texts })).not.toBe('allow')
    },
  )

  // Every 31st combination, because such long texts take tenths of a second.
  it.each(cases.filter((_, n) => n % 31 === 0))(
    '$name are not allowed behind 100,000 harmless characters: $text',
    async ({ disguised }) => {
      expect(await decide({ texts: [...LONG_AND_HARMLESS, disguised] })).not.toBe('allow')
    },
  )

  it.each(FORBIDDEN.flatMap(({ text }) => Object.keys(DIVISIONS).map(name => ({ name, text }))))(
    'divided into $name are not allowed: $text',
    async ({ name, text }) => {
      const texts = DIVISIONS[name]!(text)
      expect(await decide({ texts })).not.toBe('allow')
      // Also disguised.
      expect(await decide({ texts: texts.map(DISGUISES['with zero-width spaces']!) })).not.toBe('allow')
      expect(await decide({ texts: texts.map(DISGUISES['full-width']!) })).not.toBe('allow')
    },
  )
})

describe('harmless texts in many languages', () => {
  it('number at least two hundred', () => expect(HARMLESS_TEXTS.length).toBeGreaterThan(200))

  // The counts of the rules before folding: 1 of these texts, and 3 if profanity counts.
  it('are held back no more often than without folding', async () => {
    const decisions = await Promise.all(HARMLESS_TEXTS.map(text => decide({ text })))
    expect(decisions.filter(one => one !== 'allow').length).toBeLessThanOrEqual(3)
    const byDefault = HARMLESS_TEXTS.filter(text => moderate.answerByRules({ text }) !== null)
    expect(byDefault.length).toBeLessThanOrEqual(1)
  })

  it('are held back no more often when moderated together', async () => {
    const groups = Array.from({ length: 22 }, (_, n) => HARMLESS_TEXTS.slice(n * 10, n * 10 + 10))
    const decisions = await Promise.all(groups.map(texts => decide({ texts })))
    expect(decisions.filter(one => one !== 'allow').length).toBeLessThanOrEqual(3)
  })

  // The same count before folding: a table row that looks like a card.
  it('are filtered no more often than without folding', () => {
    const filtered = HARMLESS_TEXTS.filter(text => filterOutput(text, ['api_key', ...PERSONAL_TYPES]).filtered !== null)
    expect(filtered).toEqual(['The table lists 4012 4512 4100 4301 and 5100 units per quarter.'])
  })
})
