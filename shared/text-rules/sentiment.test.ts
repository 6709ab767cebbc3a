import { describe, expect, it } from 'vitest'
import { LABELLED, type Labelled } from '#shared/testing/sentiment-labelled.ts'
import { type Sentiment, sentiment } from './sentiment.ts'
import { FACES, WORDS } from './sentiment-lexicon.ts'

const LABELS: Sentiment['label'][] = ['positive', 'negative', 'neutral']

/** The share of correct labels, and a confusion matrix. */
function measure(sentences: readonly Labelled[]) {
  const rows = LABELS.map(label => {
    const given = sentences.filter(one => one.label === label).map(one => sentiment(one.text).label)
    return { label, counts: LABELS.map(taken => given.filter(one => one === taken).length) }
  })
  const right = rows.reduce((sum, row, i) => sum + row.counts[i]!, 0)
  const table = rows.map(row => `${row.label} taken for ${LABELS.map((taken, i) => `${taken} ${row.counts[i]}`)}`)
  return { accuracy: right / sentences.length, table: `${right} of ${sentences.length} right\n${table.join('\n')}` }
}

describe('the labelled sentences', () => {
  it('are 200 distinct, balanced sentences, with 60 balanced ones held out', () => {
    expect(new Set(LABELLED.map(one => one.text)).size).toBe(200)
    const count = (some: readonly Labelled[]) => LABELS.map(label => some.filter(one => one.label === label).length)
    expect(count(LABELLED)).toEqual([67, 67, 66])
    expect(count(LABELLED.filter(one => one.heldOut))).toEqual([20, 20, 20])
  })

  it('are classified correctly in three of four cases', () => {
    const { accuracy, table } = measure(LABELLED)
    expect(accuracy, table).toBeGreaterThanOrEqual(0.75)
  })

  it('are classified correctly in seven of ten held-out cases', () => {
    const { accuracy, table } = measure(LABELLED.filter(one => one.heldOut))
    expect(accuracy, table).toBeGreaterThanOrEqual(0.7)
  })
})

const score = (text: string) => sentiment(text).score

describe('sentiment', () => {
  it.each([
    ['The soup was good.', 'positive'],
    ['The soup was not good.', 'negative'],
    ["The soup wasn't good.", 'negative'],
    ['The soup wasn’t very good.', 'negative'],
    ['It is hardly useful, sadly.', 'negative'],
    ['Anything but helpful.', 'negative'],
    ['Not bad!', 'positive'],
    ['No complaints.', 'positive'],
    ['Never again.', 'negative'],
    ['A waste of money.', 'negative'],
    ['It looks like a boat.', 'neutral'],
    ['Is there a problem with the printer?', 'neutral'],
    ['👍🏽', 'positive'],
    ['the update :(', 'negative'],
    ['See https://great.example/awesome for the minutes.', 'neutral'],
  ] as const)('%s is %s', (text, label) => {
    expect(sentiment(text).label).toBe(label)
  })

  it('limits a negation to its clause', () => {
    expect(sentiment('I did not wait, excellent service.').label).toBe('positive')
    expect(sentiment('It is not only good.').label).toBe('positive')
  })

  it('gives more weight to the part after a "but"', () => {
    expect(sentiment('It is helpful but it crashes.').label).toBe('negative')
    expect(sentiment('It crashes but it is helpful.').label).toBe('positive')
    expect(sentiment('Although it is ugly, it is useful and good.').label).toBe('positive')
  })

  it('weighs stress and hedges', () => {
    expect(score('It is very good.')).toBeGreaterThan(score('It is good.'))
    expect(score('It is somewhat good.')).toBeLessThan(score('It is good.'))
    expect(score('It is good!!')).toBeGreaterThan(score('It is good!'))
    expect(score('It is GOOD.')).toBeGreaterThan(score('It is good.'))
    expect(score('IT IS GOOD.')).toBe(score('it is good.'))
    expect(score('It is goooood.')).toBe(score('It is good.'))
    expect(score('It is terribly bad.')).toBeLessThan(score('It is bad.'))
  })

  it('has a low confidence in a text without known words', () => {
    expect(sentiment('')).toEqual({ label: 'neutral', confidence: 0, score: 0 })
    expect(sentiment('これはひどい').confidence).toBeLessThan(sentiment('The box is 30 cm wide.').confidence)
  })

  it('is more confident if the words agree', () => {
    const [unanimous, mixed] = [sentiment('Great food, great staff.'), sentiment('Great food, great staff, bad music.')]
    expect(mixed.label).toBe('positive')
    expect(mixed.confidence).toBeLessThan(unanimous.confidence)
  })

  it('keeps score and confidence within bounds, and is deterministic', () => {
    for (const { text } of LABELLED) {
      const found = sentiment(text)
      expect(found).toEqual(sentiment(text))
      expect(Math.abs(found.score)).toBeLessThanOrEqual(1)
      expect(found.confidence).toBeGreaterThanOrEqual(0)
      expect(found.confidence).toBeLessThanOrEqual(1)
    }
  })

  it.each([
    ['negations, then words', 'not '.repeat(100_000) + 'good '.repeat(100_000)],
    ['turn after turn', 'good but '.repeat(110_000)],
    ['half an idiom', 'can not recommend '.repeat(55_000)],
    ['punctuation', '!'.repeat(1_000_000)],
    ['one word', 'a-'.repeat(500_000)],
  ])('does linear work on a long text: %s', (_, text) => {
    // Quadratic work would take minutes and end at the test's timeout.
    expect(() => sentiment(text)).not.toThrow()
  })

  it('has a lexicon of the promised size', () => {
    expect(WORDS.size + FACES.size).toBeGreaterThan(600)
  })
})
