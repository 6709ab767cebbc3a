/** Texts that moderation must hold back, and disguises that a reader still understands. */

/** `word`: the words that a scripted model detects in plain text; absent: the rules detect the text. */
export type Forbidden = { text: string; word?: string }

export const FORBIDDEN: readonly Forbidden[] = [
  { text: 'I will kill you tonight', word: 'kill you' },
  { text: 'You should hang yourself', word: 'hang yourself' },
  { text: 'Buy cocaine from me', word: 'cocaine' },
  { text: 'They are all vermin', word: 'vermin' },
  { text: 'How to build a pipe bomb', word: 'pipe bomb' },
  { text: 'Send me nudes', word: 'nudes' },
  { text: 'What the fuck' },
  { text: 'You are a bitch' },
  { text: 'Pay with 4111 1111 1111 1111 today' },
  { text: 'My SSN is 219-09-9999' },
  { text: 'Transfer it to DE89 3704 0044 0532 0130 00' },
  { text: 'Call me at +1 415 555 2671' },
  { text: 'Write to joe@example.com' },
  { text: 'Act now! Congratulations, you have won! Claim your prize, click here' },
]

/** A harmless text of 100,000 characters, in two parts that one request can hold. */
export const LONG_AND_HARMLESS: readonly string[] = Array.from({ length: 2 }, () =>
  'The weather is lovely and the garden is green. '.repeat(1064).slice(0, 50_000),
)

const mapped = (from: string, to: string) => {
  const letters = [...to]
  return (text: string) => [...text].map(char => (from.includes(char) ? letters[from.indexOf(char)]! : char)).join('')
}
const shifted = (base: number, from: string) => (text: string) =>
  [...text].map(char => (from.includes(char) ? String.fromCodePoint(base + from.indexOf(char)) : char)).join('')

const LOWER = 'abcdefghijklmnopqrstuvwxyz'
const UPPER = LOWER.toUpperCase()
const DIGITS = '0123456789'
const between = (mark: string) => (text: string) => [...text].join(mark)
const afterEach = (mark: string) => (text: string) =>
  [...text].map(char => (/[a-z0-9]/i.test(char) ? char + mark : char)).join('')
const letters = (lower: number, upper: number, digits: number) => (text: string) =>
  shifted(digits, DIGITS)(shifted(upper, UPPER)(shifted(lower, LOWER)(text)))

/** Disguises every other letter or digit: such a text is just as readable. */
const everyOther = (disguise: (text: string) => string) => (text: string) =>
  [...text].map((char, n) => (n % 2 === 0 ? disguise(char) : char)).join('')

export const DISGUISES: Readonly<Record<string, (text: string) => string>> = {
  'spaced out': between(' '),
  dotted: between('.'),
  'with dashes': between('-'),
  'one letter a line': between('\n'),
  'with zero-width spaces': between('\u200b'),
  'with joiners': between('\u200d'),
  'with non-joiners': afterEach('\u200c'),
  'with soft hyphens': between('\u00ad'),
  'with word joiners and bidi marks': between('\u2060\u200e'),
  'with variation selectors': afterEach('\ufe0f'),
  'with a tag on each letter': afterEach('\u{e0061}'),
  'with filler letters': between('\u3164'),
  'struck through': afterEach('\u0336'),
  'under piles of marks': afterEach('\u0301\u0327\u0330\u035b'),
  'full-width': shifted(0xff01, Array.from({ length: 94 }, (_, n) => String.fromCharCode(33 + n)).join('')),
  'half full-width': everyOther(
    shifted(0xff01, Array.from({ length: 94 }, (_, n) => String.fromCharCode(33 + n)).join('')),
  ),
  'in bold mathematical letters': letters(0x1d41a, 0x1d400, 0x1d7ce),
  'in sans-serif italics': letters(0x1d622, 0x1d608, 0x1d7e2),
  'in monospace': letters(0x1d68a, 0x1d670, 0x1d7f6),
  'in circles': text => letters(0x24d0, 0x24b6, 0x2460 - 1)(text).replaceAll(String.fromCodePoint(0x2460 - 1), '⓪'),
  'in black squares': text => shifted(0x1f170, UPPER)(text.toUpperCase()),
  'in Cyrillic lookalikes': mapped('aceopxysijABCEHIKMOPTXY', 'асеорхуѕіјАВСЕНІКМОРТХУ'),
  'in Greek lookalikes': mapped('aeiknoptuvABEHIKMNOPTXYZ', 'αεικηορτυνΑΒΕΗΙΚΜΝΟΡΤΧΥΖ'),
  'in small capitals': mapped(LOWER, 'ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡxʏᴢ'),
  'with Arabic digits and an invisible letter': text => between('\u2063')(shifted(0x0660, DIGITS)(text)),
  'with Devanagari digits in full width': text =>
    shifted(0xff21, UPPER)(shifted(0xff41, LOWER)(shifted(0x0966, DIGITS)(text))),
  'with wide spaces and dashes': text => between('\u200b')(text).replaceAll(' ', '\u2003').replaceAll('-', '\u2011'),
  'with lookalikes in between invisible letters': text => between('\u2064')(mapped('aceopxysij', 'асеорхуѕіј')(text)),
  'in invisible tags': text =>
    `Hello ${[...text].map(char => String.fromCodePoint(0xe0000 + char.charCodeAt(0))).join('')}`,
}

/** Ways to split a text into several texts of one request. */
export const DIVISIONS: Readonly<Record<string, (text: string) => string[]>> = {
  halves: text => [text.slice(0, text.length / 2), text.slice(text.length / 2)].filter(one => one.trim() !== ''),
  'pieces of three characters': text => {
    const size = Math.max(3, Math.ceil(text.length / 20))
    return text.match(new RegExp(`[^]{1,${size}}`, 'g'))!
  },
  words: text => text.split(' '),
}
