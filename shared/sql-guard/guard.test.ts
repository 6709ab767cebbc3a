import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { HOSTILE, LEGITIMATE, RULES } from '#shared/testing/sql-corpus.ts'
import { guardSql } from './guard.ts'
import { type Fields, loadParser, parse } from './parse.ts'
import { REFUSAL_CODES } from './refusal.ts'

const hostile = Object.entries(HOSTILE).flatMap(([code, queries]) => queries.map(sql => ({ code, sql })))

const short = (sql: string) => JSON.stringify(sql).slice(0, 150)

/** The only statement, and the number in its outermost LIMIT. */
async function parsed(sql: string) {
  const statements = parse(await loadParser(), sql)
  expect(statements).toHaveLength(1)
  expect(Object.keys(statements[0]!)).toEqual(['SelectStmt'])
  const select = statements[0]!.SelectStmt as Fields
  const { A_Const } = select.limitCount as { A_Const: { ival: { ival?: number } } }
  return { select, limit: A_Const.ival.ival ?? 0 }
}

async function passed(sql: string, rules = RULES) {
  const result = await guardSql(sql, rules)
  if (!result.ok) throw new Error(`refused (${result.code}): ${result.reason} ${short(sql)}`)
  return result
}

describe('a hostile query', () => {
  it('covers more than two hundred cases of every kind', () => {
    expect(new Set(hostile.map(({ sql }) => sql)).size).toBe(hostile.length)
    expect(hostile.length).toBeGreaterThanOrEqual(200)
    for (const code of REFUSAL_CODES) expect(HOSTILE[code].length).toBeGreaterThan(0)
  })

  it.each(hostile.map(({ code, sql }) => [code, short(sql), sql]))('is refused as %s: %s', async (code, _, sql) => {
    expect(await guardSql(sql!, RULES)).toEqual({ ok: false, code, reason: expect.stringMatching(/^[A-Z*\w].*\.$/s) })
  })
})

describe('a legitimate query', () => {
  it('covers more than fifty cases', () => expect(new Set(LEGITIMATE).size).toBeGreaterThanOrEqual(50))

  it.each(LEGITIMATE.map(sql => [short(sql), sql]))('passes, with a limit, and passes again: %s', async (_, sql) => {
    const first = await passed(sql!)
    const { limit } = await parsed(first.sql)
    expect(limit).toBeLessThanOrEqual(RULES.maxRows)
    const second = await passed(first.sql)
    // A second pass changes nothing.
    expect(second).toEqual(first)
  })
})

describe('the returned query', () => {
  const cases: [string, string][] = [
    ['SELECT id FROM orders', 'SELECT id FROM orders LIMIT 100'],
    ['SELECT id FROM orders;', 'SELECT id FROM orders LIMIT 100'],
    ['SELECT id FROM orders -- LIMIT 5', 'SELECT id FROM orders LIMIT 100'],
    ['SELECT id/**/FROM orders LIMIT 5', 'SELECT id FROM orders LIMIT 5'],
    ["SELECT '😀' FROM orders LIMIT 5000 OFFSET 3", "SELECT '😀' FROM orders LIMIT 100 OFFSET 3"],
    ['SELECT id FROM orders LIMIT ALL', 'SELECT * FROM (SELECT id FROM orders LIMIT ALL) AS q LIMIT 100'],
    ['SELECT 1 UNION SELECT 2', 'SELECT 1 UNION SELECT 2 LIMIT 100'],
    ['SELECT id FROM public.orders', 'SELECT id FROM orders LIMIT 100'],
    [
      'SELECT "public".orders.id FROM PUBLIC/* x */. "orders" WHERE public.orders.id > 1',
      'SELECT orders.id FROM "orders" WHERE orders.id > 1 LIMIT 100',
    ],
    ['SELECT c.id FROM public.customers c', 'SELECT c.id FROM customers c LIMIT 100'],
    ['SELECT id FROM public.events', 'SELECT id FROM public.events LIMIT 100'],
    [
      'SELECT id FROM orders WHERE id IN (SELECT id FROM orders LIMIT 7)',
      'SELECT id FROM orders WHERE id IN (SELECT id FROM orders LIMIT 7) LIMIT 100',
    ],
    [
      'SELECT count(*) AS password_hash FROM customers GROUP BY password_hash',
      'SELECT count(*) AS password_hash FROM customers GROUP BY 1 LIMIT 100',
    ],
  ]
  it.each(cases)('of %s is %s', async (sql, expected) => {
    expect((await passed(sql)).sql).toBe(expected)
  })

  it('keeps a lower LIMIT, and reduces a higher one to the limit of the rules', async () => {
    const rules = { ...RULES, maxRows: 7 }
    for (const [own, limit] of [
      [0, 0],
      [7, 7],
      [8, 7],
    ]) {
      const { sql } = await passed(`SELECT id FROM orders LIMIT ${own}`, rules)
      expect((await parsed(sql)).limit).toBe(limit)
    }
  })

  it('comes with the tables that it reads, without CTEs', async () => {
    const sql = `WITH products AS (SELECT id FROM customers) SELECT 1 FROM products, public.events JOIN orders ON true`
    expect((await passed(sql)).tables.toSorted()).toEqual(['customers', 'orders', 'public.events'])
  })
})

describe('the columns that must exist', () => {
  it.each([
    ['SELECT name FROM customers', { customers: RULES.tables.customers }],
    ['SELECT id, total FROM orders', { orders: [] }],
    ['SELECT o.total FROM orders o WHERE o.paid', { orders: ['total', 'paid'] }],
    ['SELECT public.events.id FROM public.events', { 'public.events': ['id'] }],
    ['SELECT o.fn FROM public.orders o', { orders: ['fn'] }],
    ['SELECT q.fn FROM (SELECT * FROM orders) q', { orders: ['fn'] }],
    ['WITH q AS (SELECT o.*, 1 AS n FROM orders o) SELECT q.n, q.fn FROM q', { orders: ['fn'] }],
    ['SELECT j.fn, j.name FROM (orders o JOIN customers c ON true) AS j', undefined],
    ['SELECT 1 FROM orders o JOIN order_items i ON i.order_id = o.id', { orders: ['id'], order_items: ['order_id'] }],
    ['SELECT (SELECT max(o.fn)) FROM orders o ORDER BY o.gn', { orders: ['fn', 'gn'] }],
  ])('of %s', async (sql, columns) => {
    const guarded = await guardSql(sql, RULES)
    expect(guarded.ok ? guarded.columns : undefined).toEqual(columns)
  })
})

describe('the rules', () => {
  it('require a limit that is a positive integer', async () => {
    for (const maxRows of [0, -1, 1.5, Number.NaN, 2 ** 31]) {
      await expect(guardSql('SELECT 1', { tables: {}, maxRows })).rejects.toThrow(RangeError)
    }
  })

  it('without tables allow no table', async () => {
    expect(await guardSql('SELECT 1 FROM orders', { tables: {}, maxRows: 1 })).toMatchObject({ code: 'unknown_table' })
  })
})

describe('any text', () => {
  const PIECES = /\w+|\s+|[^\w\s]/g
  const good = LEGITIMATE.filter(sql => sql.length < 2000)
  const corpus = [...hostile.map(({ sql }) => sql).filter(sql => sql.length < 2000), ...good]
  const words = [...new Set(corpus.flatMap(sql => sql.match(PIECES) ?? []))]

  const anything = fc.oneof(fc.constantFrom(...words), fc.string({ unit: 'binary' }))

  /** A query of `queries` with parts removed, doubled, or replaced by `put`. */
  const mutated = (queries: string[], put: fc.Arbitrary<string>, maxLength: number) =>
    fc
      .tuple(fc.constantFrom(...queries), fc.array(fc.tuple(fc.nat(), fc.nat(2), put), { minLength: 1, maxLength }))
      .map(([sql, edits]) => {
        const parts = sql.match(PIECES) ?? ['']
        for (const [at, removed, put] of edits) parts.splice(at % (parts.length + 1), removed, put)
        return parts.join('')
      })
  /** Small changes, so that many results are still queries. */
  const plausible = fc.constantFrom(
    ' ',
    '1',
    'id',
    'name',
    ' x ',
    ' NOT ',
    ', id',
    '(',
    ')',
    '-- x\n',
    '/* x */',
    ';',
    '',
  )
  const spliced = fc
    .tuple(fc.constantFrom(...corpus), fc.constantFrom(...corpus), fc.nat(), fc.nat())
    .map(([a, b, i, j]) => a.slice(0, i % (a.length + 1)) + b.slice(j % (b.length + 1)))

  const texts = fc.oneof(
    fc.string({ unit: 'binary' }),
    mutated(corpus, anything, 4),
    mutated(good, fc.constantFrom(...words), 2),
    mutated(good, plausible, 2),
    spliced,
  )

  it('never throws, and a query that passes is one SELECT within the limit that passes again', async () => {
    let passes = 0
    await fc.assert(
      fc.asyncProperty(texts, async sql => {
        const result = await guardSql(sql, RULES)
        if (!result.ok) {
          expect(REFUSAL_CODES).toContain(result.code)
          return
        }
        passes++
        expect((await parsed(result.sql)).limit).toBeLessThanOrEqual(RULES.maxRows)
        expect(await guardSql(result.sql, RULES)).toEqual(result)
      }),
      { numRuns: 3000 },
    )
    // Otherwise the property would prove little.
    expect(passes).toBeGreaterThan(100)
  })
})
