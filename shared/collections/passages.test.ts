import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { cutPassages, PASSAGE_LENGTH, PASSAGE_OVERLAP, passageRanges } from './passages.ts'

const sentence = (n: number) => `This is sentence number ${n} of the text.`
const paragraph = (from: number, sentences: number) =>
  Array.from({ length: sentences }, (_, i) => sentence(from + i)).join(' ')

describe('cutPassages', () => {
  it('returns a short text as one passage, without surrounding white space', () => {
    expect(cutPassages('\n  One.\n\nTwo.  \n')).toEqual(['One.\n\nTwo.'])
    expect(cutPassages(' \n ')).toEqual([])
  })

  it('ends a passage at a paragraph, if that is not too early', () => {
    const paragraphs = [paragraph(0, 35), paragraph(100, 35), paragraph(200, 35)]
    const [first, second, third, ...more] = cutPassages(paragraphs.join('\n\n'))
    expect(first).toBe(paragraphs[0])
    expect(second!.endsWith(paragraphs[1]!)).toBe(true)
    expect(third!.endsWith(paragraphs[2]!)).toBe(true)
    expect(more).toEqual([])
  })

  it('otherwise ends it at a sentence, a line or a word', () => {
    expect(cutPassages(paragraph(0, 200))[0]).toMatch(/text\.$/)
    const [line] = cutPassages(Array.from({ length: 200 }, (_, n) => `row ${n} of the table without a stop`).join('\n'))
    expect(line).toMatch(/stop$/)
    expect(cutPassages('word '.repeat(1000))[0]).toMatch(/word$/)
  })

  it('begins each passage at a word of the previous one', () => {
    const [first, second] = cutPassages(paragraph(0, 200))
    const shared = second!.slice(0, 100)
    expect(first).toContain(shared)
    expect(second).toMatch(/^\w+/)
  })

  it('loses nothing, splits no character and keeps overlaps short, for any text', () => {
    const piece = fc.oneof(
      fc.string({ unit: 'grapheme', maxLength: 400 }),
      fc.constantFrom('\n\n', '. ', '。', ' ', '\n', '\u{1F600}'.repeat(900), 'x'.repeat(2500)),
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 40 }), pieces => {
        const text = pieces.join('').toWellFormed()
        let covered = 0
        let last = -1
        for (const [from, to] of passageRanges(text)) {
          const passage = text.slice(from, to)
          expect(passage.length).toBeLessThanOrEqual(PASSAGE_LENGTH)
          expect(passage.isWellFormed()).toBe(true)
          expect(passage.trim()).toBe(passage)
          expect(passage).not.toBe('')
          expect(from).toBeGreaterThan(last)
          // A passage must not begin within a surrogate pair.
          if (last !== -1) expect(from).toBeGreaterThanOrEqual(covered - PASSAGE_OVERLAP - 1)
          expect(text.slice(covered, Math.max(covered, from)).trim()).toBe('')
          expect(to).toBeGreaterThan(covered)
          last = from
          covered = to
        }
        expect(text.slice(covered).trim()).toBe('')
      }),
    )
  })
})
