import { expect, it } from 'vitest'
import { claimChunk } from '#shared/db/batches/claim-chunk.ts'
import { createBatch, validationJob } from '#shared/db/batches/create.ts'
import { startBatch } from '#shared/db/batches/start.ts'
import { jobs } from '#shared/jobs/index.ts'
import { createPrices } from '#shared/models/prices.ts'
import { newBatch } from '#shared/testing/batches.ts'
import { contextWith } from '#shared/testing/kinds.ts'
import { ask, fileDatabase, newBeat } from '#shared/testing/postgres.ts'
import { writeLines } from './validate.ts'

const database = fileDatabase()

const LINES = 450
const SHORT = 10
/** Characters of a long text; about 130 such lines fill a statement. */
const LONG = 30_000

/** Validates the lines of a batch up to `upTo`, each with a prompt of `characters` characters. */
async function write(batchId: string, characters: number, upTo = Number.POSITIVE_INFINITY): Promise<boolean> {
  const generate = jobs.get('generate')!
  const kind = { ...generate, prepare: async () => ({ input: { prompt: 'a'.repeat(characters) } }) }
  const deps = {
    db: database.dbs[0],
    jobs: new Map([['generate', kind]]),
    available: async () => [],
    prices: createPrices(),
    lookup: () => contextWith(),
  }
  const format = {
    surface: 'native',
    endpoint: null,
    kind: 'generate',
    options: {},
    mapping: { format: 'jsonl' },
  } as const
  const killed = new AbortController()
  async function* bytes() {
    for (let line = 1; line <= LINES; line++) {
      if (line > upTo) killed.abort()
      yield Buffer.from(`${JSON.stringify({ input: { prompt: 'Hi' } })}\n${line % 100 ? '' : '\n'}`)
    }
  }
  return await writeLines(deps, { id: batchId, api_key_id: 'key', ...format }, bytes(), killed.signal)
}

it.each([
  ['nothing', LONG, 0, LONG],
  ['a part, of longer texts', LONG, 300, SHORT],
  ['all, of shorter texts', SHORT, Number.POSITIVE_INFINITY, LONG],
  ['all, of longer texts', LONG, Number.POSITIVE_INFINITY, SHORT],
])('a validation after %s of an earlier one puts every line into one chunk of 200', async (_, before, upTo, now) => {
  const [db] = database.dbs
  const batch = newBatch()
  await createBatch(db, batch)
  const claim = { ...validationJob(batch), workerId: newBeat().id }
  await claimChunk(db, claim)
  expect(await write(batch.id, before, upTo)).toBe(upTo > LINES)
  expect(await write(batch.id, now)).toBe(true)
  const found = { total: LINES, boundUsd: null, model: null }
  expect(await startBatch(db, claim, found)).toBe('started')
  const chunks = `SELECT first_line, last_line, (SELECT count(*)::int FROM tasks t WHERE t.batch_id = c.batch_id
      AND t.line BETWEEN c.first_line AND c.last_line) AS lines
    FROM batch_chunks c WHERE step = 'run' ORDER BY first_line`
  // Blank lines are counted, and are no records.
  expect(await ask(db, chunks)).toEqual([
    { first_line: 1, last_line: 201, lines: 200 },
    { first_line: 203, last_line: 403, lines: 200 },
    { first_line: 405, last_line: 454, lines: 50 },
  ])
})
