import { randomUUID } from 'node:crypto'
import { beforeEach, describe, expect, it } from 'vitest'
import { MOST_PASSAGES } from '#shared/collections/collection.ts'
import { ask, fileDatabase } from '#shared/testing/postgres.ts'
import {
  deleteCollection,
  putCollection,
  putDocuments,
  readCollection,
  searchPassages,
  searchStatement,
} from './collections.ts'
import type { Db } from './pool.ts'

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
const document = (id: string, text: string) => ({ id, text, metadata: null })

describe('a collection', () => {
  it('is searched by its index, among those of others, whatever the planner thinks of them', async () => {
    const whose = await collection()
    const other = await collection()
    const many = Array.from({ length: 500 }, (_, n) => document(`d${n}`, `The needle number ${n} of a haystack`))
    await putDocuments(db, other, many)
    await putDocuments(db, whose, [document('a', 'One needle')])
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

  it('that is full takes no more, and what was there stays', async () => {
    const whose = await collection()
    await putDocuments(db, whose, [document('a', 'One'), document('b', 'Two')])
    await ask(db, `UPDATE documents SET passages = $1 WHERE id = 'b'`, [MOST_PASSAGES - 1])
    expect(await putDocuments(db, whose, [document('c', 'Three')])).toEqual({
      kind: 'full',
      passages: MOST_PASSAGES + 1,
    })
    // In the place of another it may.
    expect(await putDocuments(db, whose, [document('a', 'Three')])).toMatchObject({
      kind: 'put',
      documents: [{ id: 'a' }],
    })
    expect(await readCollection(db, whose)).toMatchObject({ documents: 2, passages: MOST_PASSAGES })
  })

  it('that is deleted while others write to it leaves nothing behind', async () => {
    const whose = await collection()
    await Promise.all([
      ...database.dbs.flatMap((one, d) =>
        Array.from({ length: 10 }, (_, n) => putDocuments(one, whose, [document(`${d}-${n}`, 'Some words')])),
      ),
      deleteCollection(database.dbs[1]!, whose),
    ])
    expect(await readCollection(db, whose)).toBeNull()
    const left = `SELECT FROM %s x WHERE NOT EXISTS (SELECT FROM collections c WHERE c.id = x.collection_id)`
    for (const table of ['documents', 'passages']) expect(await ask(db, left.replace('%s', table))).toEqual([])
  })

  it('has each word of a question weighed once: whoever has more of them comes first', async () => {
    const whose = await collection()
    await putDocuments(db, whose, [
      document('often', 'refund '.repeat(50)),
      document('both', `Shoes are sold in pairs. ${'Other things are not. '.repeat(20)} A refund takes a week.`),
      document('near', 'A refund for shoes takes a week.'),
    ])
    const found = await searchPassages(db, whose, { question: 'a refund for shoes', limit: 3 })
    expect(found!.map(one => one.document)).toEqual(['near', 'both', 'often'])
  })
})

describe('a transaction', () => {
  it('is undone as a whole by a step that fails, and leaves its connection as it was', async () => {
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
