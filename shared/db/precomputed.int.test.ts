import { beforeEach, describe, expect, it } from 'vitest'
import { ask, fileDatabase } from '#shared/testing/postgres.ts'
import { createPrecomputedFinder, deletePrecomputed, listPrecomputed, putPrecomputed } from './precomputed.ts'

const database = fileDatabase()
beforeEach(() => ask(database.dbs[0], 'TRUNCATE precomputed'))
const put = (kind: string, answer: { input?: unknown; result: unknown }) =>
  putPrecomputed(database.dbs[0], kind, answer)
const find = (kind: string, input: unknown) => createPrecomputedFinder(database.dbs[0])(kind, input)

describe('a precomputed answer', () => {
  it('is found by its input in any order of keys, or by the default of the kind', async () => {
    expect(await find('generate', { prompt: 'a' })).toBeNull()
    await put('generate', { input: { prompt: 'a', system: 's' }, result: { text: 'A' } })
    expect(await find('generate', { prompt: 'b' })).toBeNull()
    await put('generate', { result: { text: 'any' } })
    expect(await find('generate', { system: 's', prompt: 'a' })).toEqual({ result: { text: 'A' }, exact: true })
    expect(await find('generate', { prompt: 'b' })).toEqual({ result: { text: 'any' }, exact: false })
    expect(await find('other', { prompt: 'a' })).toBeNull()
  })

  it('replaces the previous answer', async () => {
    const before = await put('generate', { input: 1, result: 'old' })
    const row = await put('generate', { input: 1, result: 'new' })
    expect(row).toMatchObject({ kind: 'generate', input: 1, result: 'new', input_hash: before.input_hash })
    expect(row.updated_at.getTime()).toBeGreaterThanOrEqual(before.updated_at.getTime())
    expect(await find('generate', 1)).toEqual({ result: 'new', exact: true })
    expect(await listPrecomputed(database.dbs[0], 'generate', { after: null, limit: 9 })).toHaveLength(1)
  })

  it('can be any JSON value', async () => {
    for (const result of [null, false, 0, '', [], {}]) {
      await put('generate', { input: result, result })
      expect(await find('generate', result)).toEqual({ result, exact: true })
    }
  })

  it('is right for each of many concurrent lookups', async () => {
    const wanted = Array.from({ length: 500 }, (_, i) => ({ kind: i % 2 ? 'odd' : 'even', input: { i } }))
    for (const one of wanted.slice(0, 50)) await put(one.kind, { ...one, result: one.input.i })
    await put('odd', { result: 'default' })
    const finder = createPrecomputedFinder(database.dbs[0])
    const found = await Promise.all(wanted.map(one => finder(one.kind, one.input)))
    expect(found.map(one => one?.result ?? null)).toEqual(
      wanted.map(({ kind, input }) => (input.i < 50 ? input.i : kind === 'odd' ? 'default' : null)),
    )
  })
})

describe('the answers of a kind', () => {
  it('are listed in pages, the default first, and deleted one by one or all at once', async () => {
    const [db] = database.dbs
    for (let i = 0; i < 5; i++) await put('generate', { input: i, result: i })
    await put('generate', { result: 'default' })
    await put('other', { result: 'other' })
    const first = await listPrecomputed(db, 'generate', { after: null, limit: 4 })
    expect(first[0]).toMatchObject({ input: null, result: 'default' })
    const second = await listPrecomputed(db, 'generate', { after: first[3]!.input_hash, limit: 4 })
    expect([...first, ...second].map(row => row.input).sort()).toEqual([0, 1, 2, 3, 4, null])

    expect(await deletePrecomputed(db, 'generate', first[0]!.input_hash)).toBe(1)
    expect(await deletePrecomputed(db, 'generate', first[0]!.input_hash)).toBe(0)
    expect(await deletePrecomputed(db, 'generate', null)).toBe(5)
    expect(await find('other', 1)).toMatchObject({ result: 'other' })
  })
})
