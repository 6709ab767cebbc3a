import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { describe, expect, onTestFinished, test } from 'vitest'
import { stopAfterTest, temporaryDirectory } from '#apps/testing/setup/temporary.ts'
import { startPostgres } from './postgres.ts'
import { postgresHome } from './postgres-home.ts'
import { isRoot, StartError, signalIfAlive } from './process.ts'

async function query(url: string, text: string) {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query(text)).rows
  } finally {
    await client.end()
  }
}

test('a durable server keeps commits across kill -9, on the same port, and asks for its password', async () => {
  const dir = join(temporaryDirectory(), 'postgres')
  const first = stopAfterTest(await startPostgres({ dir }))
  const settings = "name IN ('fsync', 'synchronous_commit', 'full_page_writes')"
  const rows = await query(first.url, `SELECT setting FROM pg_settings WHERE ${settings}`)
  expect(rows, 'commits wait for the disk').toEqual([{ setting: 'on' }, { setting: 'on' }, { setting: 'on' }])
  await query(first.url, 'create table kept as select 42 as answer')
  signalIfAlive(first.pid, 'SIGKILL')
  expect((await first.exited).signal).toBe('SIGKILL')
  const second = stopAfterTest(await startPostgres({ dir, port: first.port }))
  expect(second.url).toBe(first.url)
  expect(await query(second.url, 'select answer from kept')).toEqual([{ answer: 42 }])

  expect(statSync(join(dir, 'password')).mode & 0o077).toBe(0)
  const wrong = new URL(second.url)
  wrong.password = 'wrong'
  await expect(query(wrong.href, 'select 1')).rejects.toMatchObject({ code: '28P01' })
})

test('a start ends the server of an earlier run, and ignores a pid file whose pid belongs to another process', async () => {
  const dir = join(temporaryDirectory(), 'postgres')
  const leftover = stopAfterTest(await startPostgres({ dir, durable: false }))
  const next = stopAfterTest(await startPostgres({ dir, durable: false }))
  await leftover.exited
  expect(await query(next.url, 'select 1 as up')).toEqual([{ up: 1 }])

  signalIfAlive(next.pid, 'SIGKILL')
  await next.exited
  const pidFile = join(dir, 'data/postmaster.pid')
  writeFileSync(pidFile, readFileSync(pidFile, 'utf8').replace(/^\d+/, String(process.ppid)))
  const last = stopAfterTest(await startPostgres({ dir, durable: false }))
  expect(await query(last.url, 'select 1 as up')).toEqual([{ up: 1 }])
})

test('a set-up that was killed half way is repeated', async () => {
  const dir = join(temporaryDirectory(), 'postgres')
  for (const half of ['init-abc/base', 'data/base']) mkdirSync(join(dir, half), { recursive: true })
  const server = stopAfterTest(await startPostgres({ dir, durable: false }))
  expect(await query(server.url, 'select 1 as up')).toEqual([{ up: 1 }])
})

/** A directory that only root may enter. */
function closedDirectory() {
  const closed = join(temporaryDirectory(), 'closed')
  mkdirSync(closed, { mode: 0o700 })
  return closed
}

/** Starts the Postgres of a DATA_DIR as `npm start` does. */
async function startIn(dataDir: string, log: (line: string) => void = () => {}) {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 })
  const home = postgresHome(join(dataDir, 'postgres'), log)
  const server = stopAfterTest(await startPostgres({ dir: home, durable: false }))
  onTestFinished(() => rmSync(home, { recursive: true, force: true }))
  return { ...server, home }
}

/** As `cp -a` does: links stay links, and get another inode. */
const copy = (from: string, to: string) => execFileSync('cp', ['-a', from, to])

describe.runIf(isRoot())('root’s Postgres below a directory that only root may enter', { timeout: 180_000 }, () => {
  test('keeps its data in /var/lib/sluice; a moved DATA_DIR takes them along, a new one has none', async () => {
    const dataDir = join(closedDirectory(), 'data')
    const lines: string[] = []
    const first = await startIn(dataDir, line => lines.push(line))
    expect(first.home).toMatch(/^\/var\/lib\/sluice\/data-/)
    expect(lines.join()).toContain(first.home)
    await query(first.url, 'create table kept as select 42 as answer')
    await first.stop()

    renameSync(dataDir, `${dataDir}.moved`)
    const other = await startIn(dataDir)
    expect(other.home).not.toBe(first.home)
    const moved = await startIn(`${dataDir}.moved`)
    expect(moved.home).toBe(first.home)
    expect(await query(moved.url, 'select answer from kept')).toEqual([{ answer: 42 }])
  })

  test('is refused to a copy of a DATA_DIR until the original is deleted', async () => {
    const closed = closedDirectory()
    const [original, copied] = [join(closed, 'original'), join(closed, 'copied')]
    const first = await startIn(original)
    await query(first.url, 'create table kept as select 42 as answer')
    copy(original, copied)
    const refused = startIn(copied)
    await expect(refused).rejects.toThrow(StartError)
    await expect(refused).rejects.toThrow(`${copied} is a copy of ${original},`)
    expect(await query(first.url, 'select answer from kept')).toEqual([{ answer: 42 }])

    await first.stop()
    rmSync(original, { recursive: true })
    const heir = await startIn(copied)
    expect(heir.home).toBe(first.home)
    expect(await query(heir.url, 'select answer from kept')).toEqual([{ answer: 42 }])
    const fresh = await startIn(original)
    expect(fresh.home).not.toBe(first.home)
  })

  test('starts empty if its data were deleted', async () => {
    const dataDir = join(closedDirectory(), 'data')
    const first = await startIn(dataDir)
    await first.stop()
    rmSync(first.home, { recursive: true })
    const lines: string[] = []
    const second = await startIn(dataDir, line => lines.push(line))
    expect(second.home).not.toBe(first.home)
    expect(lines[0]).toContain(`${first.home}, which is gone`)
  })
})

test('a directory that exists is used where it is', () => {
  const dir = join(temporaryDirectory(), 'postgres')
  mkdirSync(dir)
  expect(postgresHome(dir, () => {})).toBe(dir)
})
