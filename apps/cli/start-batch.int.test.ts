import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { createClient } from '../client/index.ts'
import type { Session } from './session.ts'
import { start } from './start-batch.ts'
import { type FakeSluice, KEY, startFakeSluice } from './testing/fake-sluice.ts'

let fake: FakeSluice
let dir: string

beforeEach(async () => {
  fake = await startFakeSluice()
  dir = mkdtempSync(join(tmpdir(), 'sluice-start-'))
  writeFileSync(join(dir, 'in.jsonl'), 'one\n')
})
afterEach(async () => {
  await fake.stop()
  rmSync(dir, { recursive: true, force: true })
})

/** `onPause` is what happens between two tries, instead of time passing. */
function begin(onPause: (nth: number) => unknown) {
  let pauses = 0
  const session: Session = {
    client: createClient({ baseUrl: fake.url, apiKey: KEY, retries: 0 }),
    progress: { say() {}, update() {}, end() {} },
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    signal: new AbortController().signal,
    pause: async () => void (await onPause(++pauses)),
    command: words => `sluice batch ${words}`,
  }
  const [input, output] = [join(dir, 'in.jsonl'), join(dir, 'out.jsonl')]
  return start(session, { input, output, endpoint: '/v1/chat/completions', maxCostUsd: null, anew: false })
}

it('the upload waits while the server restarts', async () => {
  fake.faultFor = ({ path, nth }) =>
    path !== '/v1/files' ? null : nth === 1 ? 'cut' : nth < 6 ? { status: 503 } : nth === 6 ? 'cut' : null
  await begin(async nth => {
    if (nth === 1) await fake.stop()
    if (nth === 6) await fake.start()
  })
  expect(fake.calls.filter(call => call === 'POST /v1/files')).toHaveLength(7)
  expect(fake.batches).toHaveLength(1)
})

it('the file is sent at most three times', async () => {
  fake.faultFor = ({ path, nth }) => (path === '/v1/files' ? (nth % 2 ? { status: 503 } : 'lost') : null)
  await expect(begin(() => {})).rejects.toThrow(/^http/)
  expect(fake.files.size).toBe(3)
})
