import { stringify } from 'csv-stringify/sync'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { all, chunkSizes, inChunks } from '#shared/testing/byte-chunks.ts'
import { readTable } from './csv.ts'

const read = (bytes: Uint8Array | string, sizes?: readonly number[], limit?: number) =>
  all(readTable(inChunks(bytes, sizes), ',', limit))

const cell = fc
  .array(fc.constantFrom('a', '"', ',', '\n', '\r\n', '😀', 'é', ' ', '=', '\\'), { maxLength: 6 })
  .map(parts => parts.join(''))
// A row with one empty cell looks like a blank line.
const rows = fc.array(fc.array(cell, { minLength: 2, maxLength: 4 }), { maxLength: 8 })

describe('readTable', () => {
  it('reads written rows, with the line on which each row starts', async () => {
    await fc.assert(
      fc.asyncProperty(
        rows,
        chunkSizes,
        fc.constantFrom<'\n' | '\r\n'>('\n', '\r\n'),
        fc.boolean(),
        async (rows, sizes, newline, bom) => {
          const texts = rows.map(row => stringify([row], { quoted: true }).slice(0, -1))
          let line = 1
          const expected = rows.map((cells, i) => {
            const at = line
            line += texts[i]!.split('\n').length
            return { line: at, cells }
          })
          expect(await read(`${bom ? '\uFEFF' : ''}${texts.join(newline)}`, sizes)).toEqual(expected)
        },
      ),
      { numRuns: 300 },
    )
  })

  it('never throws, and gives the same result for any split of the bytes', async () => {
    const noise = fc
      .array(
        fc.oneof(
          fc.constantFrom('a', '"', ',', '\n', '\r\n', '\r', 'é').map(Buffer.from),
          fc.uint8Array({ maxLength: 2 }),
        ),
      )
      .map(parts => Buffer.concat(parts))
    await fc.assert(
      fc.asyncProperty(noise, chunkSizes, async (file, sizes) => {
        expect(await read(file, sizes)).toEqual(await read(file))
      }),
      { numRuns: 300 },
    )
  })

  it('counts blank lines', async () => {
    expect(await read('a,b\n\n\r\n1,"x\r\n\r\ny"\r\n\n2,z')).toEqual([
      { line: 1, cells: ['a', 'b'] },
      { line: 4, cells: ['1', 'x\r\n\r\ny'] },
      { line: 8, cells: ['2', 'z'] },
    ])
  })

  it('continues after a row that is not UTF-8', async () => {
    const file = Buffer.concat([Buffer.from('a,b\nx,'), Buffer.from([0xe9]), Buffer.from('\ny,z')])
    expect(await read(file, [1])).toMatchObject([
      { line: 1 },
      { line: 2, code: 'invalid_utf8' },
      { line: 3, cells: ['y', 'z'] },
    ])
  })

  it.each([
    ['a quote that is never closed', 'a,b\n\n1,2\n\n3,"4\n5,6\n', 5],
    ['a quote in the middle', 'a,b\n1,2\n3,x"4"\n5,6', 3],
    ['text after a quote', 'a,b\n1,2\n"3"x,4\n5,6', 3],
  ])('ends at %s, after reading the rows before it', async (_, text, line) => {
    expect(await read(text)).toMatchObject([
      { line: 1, cells: ['a', 'b'] },
      { cells: ['1', '2'] },
      { line, code: 'invalid_csv_record', message: expect.stringContaining('Nothing after it was read.') },
    ])
  })

  it('ends at a row that is too long, without buffering it', async () => {
    expect(await read(`a,b\n1,${'x'.repeat(100)}\n2,3`, [7], 50)).toMatchObject([
      { line: 1 },
      { line: 2, code: 'line_too_long' },
    ])
  })

  it('rethrows an error of the file', async () => {
    async function* broken() {
      yield Buffer.from('a,b\n1,2\n')
      throw new Error('the connection is gone')
    }
    await expect(all(readTable(broken(), ','))).rejects.toThrow('the connection is gone')
  })
})
