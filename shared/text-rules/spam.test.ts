import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { spamSignals } from './spam.ts'

describe('spamSignals', () => {
  it.each([
    'CONGRATULATIONS! YOU HAVE WON!!! CLICK HERE TO CLAIM YOUR PRIZE: http://bit.ly/x1',
    'Make money fast, work from home and earn $5000 a week. Act now!!! http://1.2.3.4/win',
    'Buy now http://a.example http://b.example http://c.example http://d.example cheap viagra',
    'free free free free free free free free free free free free gift. Buy now at tinyurl.com/abc',
  ])('gives a high score to “%s”', text => {
    expect(spamSignals(text).score).toBeGreaterThan(0.7)
  })

  it.each([
    '',
    'Could you look at https://example.com/docs before the meeting? I think that page 3 is out of date.',
    'The NASA and ESA teams met. Great!',
    'HTTP 200 OK',
    '# Title\n\n==========\n\n| a | b |\n|---|---|\n| 1 | 2 |\n',
    'Order 123456789 was shipped on 2024-01-15 and arrives within 3 days.',
    'Wait... what? No way!!',
    'When it has started, try http://127.0.0.1:3000/health first, and from any other machine in the network http://192.168.1.10/.',
    '0 0 0 0 0 0 0 0 0 0 0 0 0 0',
    'The rabbit.ly/x path is not a shortener, nor is habit.ly.example.com.',
  ])('gives a score of 0 to “%s”', text => {
    expect(spamSignals(text)).toEqual({ score: 0, reasons: [] })
  })

  it.each([
    ['a shortened link', 'Look: https://bit.ly/abc and tell me what you think of it, please, when you have the time.'],
    ['a link to a bare IP address', 'Look: http://93.184.216.34/abc and tell me what you think of it, please.'],
    [
      '6 links',
      `${'A sentence of quite a few ordinary words that say something. '.repeat(9)}${'https://a.example '.repeat(6)}`,
    ],
    ['little but links', 'https://a.example https://b.example look'],
    ['“cheap” 9 times', `${'cheap pills '.repeat(9)}are here`],
    ['a word 4 times or more in a row', 'I want it now now now now'],
    ['a character 8 times or more in a row', 'Helloooooooooo there'],
    [
      'the same lines again and again',
      'Do come to my own shop\nDo come to my own shop\nDo come to my own shop\nDo come to my own shop',
    ],
    ['mostly capitals', 'WHY DOES NOBODY EVER ANSWER MY LETTERS'],
    ['4 exclamation marks', 'This is it!!!!'],
    ['says “click here”', 'To read more, click here.'],
    ['says “congratulations you have won”', 'Congratulations, you have won'],
  ])('names %s', (reason, text) => {
    expect(spamSignals(text).reasons).toEqual([reason])
  })

  it('scores higher with more signals', () => {
    const one = spamSignals('To read more, click here.').score
    const two = spamSignals('To read more, click here. Buy now.').score
    const more = spamSignals('TO READ MORE, CLICK HERE. BUY NOW!!! http://bit.ly/a').score
    expect([one > 0, two > one, more > two, more < 1]).toEqual([true, true, true, true])
  })

  it('is between 0 and 1, deterministic, and above 0 only with a reason', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 300 }), text => {
        const { score, reasons } = spamSignals(text)
        expect(score).toBeGreaterThanOrEqual(0)
        expect(score).toBeLessThanOrEqual(1)
        expect(score > 0).toBe(reasons.length > 0)
        expect(spamSignals(text)).toEqual({ score, reasons })
      }),
    )
  })

  it.each(['a', '!', 'http://', 'click ', 'constructor ', 'ab\n', ' '])(
    'is done with a megabyte of “%s”',
    piece => {
      expect(spamSignals(piece.repeat(1_000_000 / piece.length)).score).toBeLessThanOrEqual(1)
    },
    60_000,
  )
})
