import { randomUUID } from 'node:crypto'
import { beforeEach, describe, expect, it } from 'vitest'
import { ask, fileDatabase } from '#shared/testing/postgres.ts'
import type { Db } from '../pool.ts'
import { deleteCollection, type Owned, putCollection, readCollection } from './collections.ts'
import { type NewDocument, putDocuments } from './documents.ts'
import { searchPassages, searchStatement } from './search.ts'

const MAX_PASSAGES = 50_000
const database = fileDatabase(3)
let db: Db
beforeEach(() => {
  db = database.dbs[0]
})

async function collection() {
  const whose = { apiKeyId: randomUUID(), name: 'handbook' }
  await putCollection(db, whose, 'english')
  return whose
}
const put = (on: Db, whose: Owned, documents: NewDocument[]) => putDocuments(on, whose, documents, MAX_PASSAGES)
const document = (id: string, text: string) => ({ id, text, metadata: null, passages: [text] })

describe('a collection', () => {
  it('search uses the index among the collections of others, whatever the statistics', async () => {
    const whose = await collection()
    const other = await collection()
    const many = Array.from({ length: 500 }, (_, n) => document(`d${n}`, `The needle number ${n} of a haystack`))
    await put(db, other, many)
    await put(db, whose, [document('a', 'One needle')])
    const [lines] = await db.transaction<[{ 'QUERY PLAN': string }[]]>(
      [[{ name: '', text: `EXPLAIN ${searchStatement.text}` }, [whose.apiKeyId, whose.name, 'needle', 5]]],
      ['enable_bitmapscan = on'],
    )
    const plan = lines.map(line => line['QUERY PLAN']).join('\n')
    expect(plan).toMatch(/Index Cond: .*collection_id.*words @@/s)
    expect(await searchPassages(db, whose, { question: 'Needles?', limit: 20 })).toMatchObject([
      { document: 'a', n: 1 },
    ])
  })

  it('a full collection refuses documents and keeps its contents', async () => {
    const whose = await collection()
    await put(db, whose, [document('a', 'One'), document('b', 'Two')])
    await ask(db, `UPDATE documents SET passages = $1 WHERE id = 'b'`, [MAX_PASSAGES - 1])
    expect(await put(db, whose, [document('c', 'Three')])).toEqual({
      kind: 'full',
      passages: MAX_PASSAGES + 1,
    })
    // Replacing a document is allowed.
    expect(await put(db, whose, [document('a', 'Three')])).toMatchObject({
      kind: 'put',
      documents: [{ id: 'a' }],
    })
    expect(await readCollection(db, whose)).toMatchObject({ documents: 2, passages: MAX_PASSAGES })
  })

  it('deletion during concurrent writes leaves nothing behind', async () => {
    const whose = await collection()
    await Promise.all([
      ...database.dbs.flatMap((one, d) =>
        Array.from({ length: 10 }, (_, n) => put(one, whose, [document(`${d}-${n}`, 'Some words')])),
      ),
      deleteCollection(database.dbs[1]!, whose),
    ])
    expect(await readCollection(db, whose)).toBeNull()
    const left = `SELECT FROM %s x WHERE NOT EXISTS (SELECT FROM collections c WHERE c.id = x.collection_id)`
    for (const table of ['documents', 'passages']) expect(await ask(db, left.replace('%s', table))).toEqual([])
  })

  it('search weighs each word once: passages with more of the words come first', async () => {
    const whose = await collection()
    await put(db, whose, [
      document('often', 'refund '.repeat(50)),
      document('both', `Shoes are sold in pairs. ${'Other things are not. '.repeat(20)} A refund takes a week.`),
      document('near', 'A refund for shoes takes a week.'),
    ])
    const found = await searchPassages(db, whose, { question: 'a refund for shoes', limit: 3 })
    expect(found!.map(one => one.document)).toEqual(['near', 'both', 'often'])
  })
})

describe('a transaction', () => {
  it('a failing step undoes all steps and restores the settings of the connection', async () => {
    const whose = await collection()
    const steps = [
      [{ name: '', text: `UPDATE collections SET language = 'german' WHERE api_key_id = $1` }, [whose.apiKeyId]],
      [{ name: '', text: 'SELECT 1 / 0' }],
    ] as const
    await expect(db.transaction(steps.map(one => [...one]) as never, ['statement_timeout = 12345'])).rejects.toThrow(
      'division',
    )
    expect(await readCollection(db, whose)).toMatchObject({ language: 'english' })
    expect(await ask(db, 'SHOW statement_timeout')).toEqual([{ statement_timeout: '25s' }])
  })
})
