import { expect, it, onTestFinished } from 'vitest'
import { createTestDatabase } from '#shared/testing/database.ts'
import { connect } from '#shared/testing/postgres.ts'
import { sharedSecret } from './secrets.ts'

it('a shared secret is created once by the first process and is the same for all', async () => {
  const database = await createTestDatabase()
  onTestFinished(() => database.drop())
  const dbs = [connect(database.url, 2), connect(database.url, 2)]
  onTestFinished(async () => void (await Promise.all(dbs.map(db => db.close()))))
  const found = await Promise.all([0, 1, 0, 1, 0, 1].map(n => sharedSecret(dbs[n]!, 'a')))
  expect(new Set(found.map(one => one.toString('hex'))).size).toBe(1)
  expect(found[0]).toHaveLength(32)
  expect(await sharedSecret(dbs[0]!, 'b')).not.toEqual(found[0])
})
