import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { all, chunkSizes, inChunks } from '#shared/testing/byte-chunks.ts'
import { type RawRecord, splitLines } from './jsonl.ts'

const split = (bytes: Uint8Array | string, sizes?: readonly number[], limit?: number) =>
  all(splitLines(inChunks(bytes, sizes), limit))

/** Bytes with many edge cases. */
const bytes = fc
  .array(
    fc.oneof(
      fc.constantFrom('\n', '\r\n', '\r', '\uFEFF', 'é', '😀', 'abc', ' ', '\0').map(text => Buffer.from(text)),
      fc.uint8Array({ maxLength: 3 }).map(some => Buffer.from(some)),
    ),
    { maxLength: 30 },
  )
  .map(parts => Buffer.concat(parts))

/** A slow reference implementation over the whole file. */
function slowly(file: Buffer, limit: number): { line: number; is: string }[] {
  const text = file.toString('latin1').replace(/^\xef\xbb\xbf/, '')
  return text.split('\n').flatMap((line, i) => {
    const raw = Buffer.from(line, 'latin1')
    if (raw.length > limit) return [{ line: i + 1, is: 'line_too_long' }]
    const decoded = raw.toString('utf8')
    if (!Buffer.from(decoded).equals(raw)) return [{ line: i + 1, is: 'invalid_utf8' }]
    return decoded.replaceAll(/[ \t\r]/g, '') === '' ? [] : [{ line: i + 1, is: `text ${decoded.replace(/\r$/, '')}` }]
  })
}
const said = (record: RawRecord) => ({
  line: record.line,
  is: 'text' in record ? `text ${record.text}` : record.code,
})

describe('splitLines', () => {
  it('finds every line for any split of the bytes', async () => {
    await fc.assert(
      fc.asyncProperty(bytes, chunkSizes, fc.constantFrom(4, 1000), async (file, sizes, limit) => {
        expect((await split(file, sizes, limit)).map(said)).toEqual(slowly(file, limit))
      }),
      { numRuns: 300 },
    )
  })

  it('accepts LF and CRLF, a byte order mark, and a last line without a line break', async () => {
    expect(await split('\uFEFFa\r\n\r\n  \nb\nc')).toEqual([
      { line: 1, text: 'a' },
      { line: 4, text: 'b' },
      { line: 5, text: 'c' },
    ])
  })

  it('continues after a line that is not UTF-8', async () => {
    const file = Buffer.concat([Buffer.from('a\nb'), Buffer.from([0xff, 0xfe]), Buffer.from('\nc\n')])
    expect((await split(file, [1])).map(said)).toEqual([
      { line: 1, is: 'text a' },
      { line: 2, is: 'invalid_utf8' },
      { line: 3, is: 'text c' },
    ])
  })

  it('reads a line of 5 MB', async () => {
    const long = 'x'.repeat(5_000_000)
    expect(await split(`a\n${long}\nb`)).toEqual([
      { line: 1, text: 'a' },
      { line: 2, text: long },
      { line: 3, text: 'b' },
    ])
  })

  it('does not buffer a line that is too long: 256 MB take almost no memory', async () => {
    const piece = Buffer.alloc(1 << 20, 'x')
    async function* endless() {
      for (let i = 0; i < 256; i++) yield piece
      yield Buffer.from('\nb')
    }
    const before = process.memoryUsage().arrayBuffers
    expect((await all(splitLines(endless()))).map(said)).toEqual([
      { line: 1, is: 'line_too_long' },
      { line: 2, is: 'text b' },
    ])
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 << 20)
  })

  it('closes the file when the reader stops', async () => {
    let closed = false
    async function* file() {
      try {
        for (;;) yield Buffer.from('a\n')
      } finally {
        closed = true
      }
    }
    for await (const _ of splitLines(file())) break
    expect(closed).toBe(true)
  })

  it('rethrows an error of the file', async () => {
    async function* broken() {
      yield Buffer.from('a\nb')
      throw new Error('the connection is gone')
    }
    await expect(all(splitLines(broken()))).rejects.toThrow('the connection is gone')
  })
})
