import { expect, it } from 'vitest'
import type { Experiment } from '#shared/db/experiments.ts'
import type { Db } from '#shared/db/pool.ts'
import { createLogger } from '#shared/logger.ts'
import { createExperiments, hashOfUser } from './experiments.ts'

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

/** Postgres, whose answers come when the test says. */
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
  // Its own first reading has not begun yet, and now never does.
  void experiments.stop()
  return { experiments, answers, running: () => experiments.expose('generate', user, asked)?.experiment }
}

it('a reading that began before another one and ends after it changes nothing', async () => {
  const { experiments, answers, running } = slowly()
  const [first, second] = [experiments.refresh(), experiments.refresh()]
  answers[1]!([experiment('new')])
  await second
  answers[0]!([experiment('old')])
  await first
  expect(running()).toBe('new')
})

it('what was read last holds while Postgres is away', async () => {
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

it('a user is a hash of 32 bytes, another one under another key', () => {
  expect(hashOfUser(user)).toHaveLength(32)
  expect(hashOfUser(user).equals(hashOfUser({ ...user }))).toBe(true)
  expect(hashOfUser(user).equals(hashOfUser({ ...user, apiKeyId: 'other' }))).toBe(false)
})
