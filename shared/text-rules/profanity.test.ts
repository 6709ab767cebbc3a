import { describe, expect, it } from 'vitest'
import { findProfanity } from './profanity.ts'

describe('findProfanity', () => {
  it.each([
    ['What the fuck', 'fuck'],
    ['fuuuuck', 'fuuuuck'],
    ['oh sh1t!', 'sh1t'],
    ['You b1tch', 'b1tch'],
    ['the @ss', '@ss'],
    ['SHIT', 'SHIT'],
  ])('finds the word in “%s”', (text, word) => {
    const start = text.indexOf(word)
    expect(findProfanity(text)).toEqual([{ word, start, end: start + word.length }])
  })

  it.each([
    'Scunthorpe, Penistone, Essex, Sussex, Lightwater, Arsenal',
    'classic assessment of the cockpit',
    'a bass guitar on the grass, an asset of Massachusetts',
    'analysis of assassins; a cumulative document',
    'peacock, cocktail, shuttlecock, Hancock',
    'shiitake by Matsushita',
    'magna cum laude',
    'Moby Dick',
    'a flame retardant',
    'hello, shell',
    '455 items for $5.00, 0455 555 rows',
    '',
  ])('finds nothing in “%s”', text => {
    expect(findProfanity(text)).toEqual([])
  })

  it('recognizes complete words and exceptions anywhere in a long text', () => {
    for (let shift = 0; shift < 30; shift++) {
      const before = `${'x'.repeat(1980 + shift)} `
      expect(findProfanity(`${before}Scunthorpe`)).toEqual([])
      expect(findProfanity(`${before}fuck it`)).toEqual([
        { word: 'fuck', start: before.length, end: before.length + 4 },
      ])
    }
  })

  it.each(['ass ', 'scunthorpe ', 'fuck', 'a', '\ud83d'])(
    'is done with a megabyte of “%s”',
    piece => {
      const places = findProfanity(piece.repeat(1_000_000 / piece.length)).flatMap(one => [one.start, one.end])
      expect(places).toEqual(places.toSorted((a, b) => a - b))
    },
    60_000,
  )
})
