import { expect, it } from 'vitest'
import type { Db } from '#shared/db/pool.ts'
import type { Experiment } from '#shared/experiments/definition.ts'
import { createLogger } from '#shared/process/logger.ts'
import { createExperiments, hashUser } from './exposures.ts'

const user = { apiKeyId: 'key', userId: 'user-42' }
const asked = {} as Parameters<ReturnType<typeof createExperiments>['expose']>[2]

const experiment = (name: string): Experiment => ({
  name,
  kind: 'generate',
  variants: [
    { name: 'a', weight: 1, engine: 'ai' },
    { name: 'b', weight: 0, engine: 'ai' },
  ],
  created_at: new Date(0),
  updated_at: new Date(0),
})

/** A Postgres that answers on demand. */
function slowly() {
  const answers: ((rows: Experiment[] | Error) => void)[] = []
  const query = () =>
    new Promise((resolve, reject) => {
      answers.push(rows => (rows instanceof Error ? reject(rows) : resolve(rows)))
    })
  const experiments = createExperiments({
    db: { query } as unknown as Db,
    logger: createLogger({ level: 'silent', name: 'test' }),
  })
  // Its first periodic read has not started, and now never does.
  void experiments.stop()
  return { experiments, answers, running: () => experiments.expose('generate', user, asked)?.experiment }
}

it('a read that started earlier but ends later is ignored', async () => {
  const { experiments, answers, running } = slowly()
  const [first, second] = [experiments.refresh(), experiments.refresh()]
  answers[1]!([experiment('new')])
  await second
  answers[0]!([experiment('old')])
  await first
  expect(running()).toBe('new')
})

it('the last read experiments stay in effect while Postgres is unavailable', async () => {
  const { experiments, answers, running } = slowly()
  expect(running()).toBeUndefined()
  const first = experiments.refresh()
  answers[0]!([experiment('one')])
  await first
  const failing = experiments.refresh()
  answers[1]!(new Error('away'))
  await expect(failing).rejects.toThrow('away')
  expect(running()).toBe('one')
  const gone = experiments.refresh()
  answers[2]!([])
  await gone
  expect(running()).toBeUndefined()
})

it('a user is a hash of 32 bytes that depends on the key', () => {
  expect(hashUser(user)).toHaveLength(32)
  expect(hashUser(user).equals(hashUser({ ...user }))).toBe(true)
  expect(hashUser(user).equals(hashUser({ ...user, apiKeyId: 'other' }))).toBe(false)
})
