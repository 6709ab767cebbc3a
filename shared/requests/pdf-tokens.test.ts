import { deflateSync } from 'node:zlib'
import fc from 'fast-check'
import { encode } from 'gpt-tokenizer/encoding/cl100k_base'
import { describe, expect, it } from 'vitest'
import { pdfTokenBound } from './pdf-tokens.ts'

type Stream = { dictionary?: string; content: string | Buffer; plain?: true }

/** A file with these streams, and a tree of pages. */
function pdf(streams: Stream[], tree = '<< /Type /Pages /Kids [2 0 R] /Count 1 >> 2 0 obj << /Type /Page >>'): string {
  const objects = streams.map(({ dictionary = '', content, plain }, i) => {
    const bytes = plain ? Buffer.from(content) : deflateSync(content)
    const head = `${i + 3} 0 obj\n<< ${plain ? '' : '/Filter /FlateDecode'} ${dictionary} /Length ${bytes.length} >>\nstream\r\n`
    return Buffer.concat([Buffer.from(head), bytes, Buffer.from('\nendstream\nendobj\n')])
  })
  return Buffer.concat([Buffer.from(`%PDF-1.7\n1 0 obj\n${tree}\n`), ...objects, Buffer.from('%%EOF')]).toString(
    'base64',
  )
}

describe('the bound of a PDF', () => {
  it('covers what its pages say, compressed or not', () => {
    const word = fc.string({ unit: fc.constantFrom(...'abcdefghijk 0123456789ÄÖé'), minLength: 1, maxLength: 400 })
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 5 }), fc.boolean(), (texts, plain) => {
        const streams = texts.map(one => ({ content: `BT (${one}) Tj ET`, ...(plain && { plain: true as const }) }))
        const tokens = encode(texts.join('\n')).length
        expect(pdfTokenBound(pdf(streams))).toBeGreaterThanOrEqual(tokens + 5000)
      }),
      { numRuns: 30 },
    )
  })

  it('counts pages by their objects and by the tree, also within object streams', () => {
    const bound = (...args: Parameters<typeof pdf>) => Math.floor(pdfTokenBound(pdf(...args))! / 5000)
    expect(bound([])).toBe(1)
    expect(bound([], '<< /Type /Pages /Count 7 >>')).toBe(7)
    expect(bound([], '<< /Type /Page >> << /Type/Page /Parent 1 0 R >> << /Type /Pages >>')).toBe(2)
    const objects = {
      dictionary: '/Type /ObjStm /N 3',
      content: '<</Type/Page>> <</Type/Page>> <</Type/Pages/Count 9>>',
    }
    expect(bound([objects], '')).toBe(9)
  })

  it('does not grow with images and fonts', () => {
    const many = Buffer.alloc(100_000, 1)
    const small = pdfTokenBound(pdf([]))!
    expect(pdfTokenBound(pdf([{ dictionary: '/Subtype /Image /Width 9', content: many }]))).toBe(small)
    expect(pdfTokenBound(pdf([{ dictionary: '/Length1 100000', content: many }]))).toBe(small)
    expect(pdfTokenBound(pdf([{ content: many }]))).toBe(small + 150_000)
  })

  it.each<[string, string]>([
    ['another file', Buffer.from('hello').toString('base64')],
    ['an encrypted file', pdf([], '<< /Type /Page >> << /Encrypt 9 0 R >>')],
    ['a file without pages', pdf([], '')],
    ['an unknown compression', pdf([{ dictionary: '/Filter /LZWDecode', content: 'x', plain: true }])],
    ['a damaged stream', pdf([{ dictionary: '/Filter /FlateDecode', content: 'x', plain: true }])],
    ['a stream that inflates without end', pdf([{ content: Buffer.alloc(9 * 1024 * 1024) }])],
    ['a file that was cut', pdf([{ content: 'x'.repeat(500), plain: true }]).slice(0, 400)],
  ])('is unknown for %s', (_, file) => {
    expect(pdfTokenBound(file)).toBeNull()
  })

  it('reads any bytes', () => {
    const parts = fc.constantFrom('%PDF-', ' obj', 'stream\n', 'endstream', '/Type /Page', '/Filter', '<<', '/Count 5')
    fc.assert(
      fc.property(fc.array(fc.oneof(parts, fc.string({ maxLength: 5 }))), pieces => {
        const bound = pdfTokenBound(Buffer.from(pieces.join('')).toString('base64'))
        expect(bound === null || bound >= 7000).toBe(true)
      }),
    )
  })
})
