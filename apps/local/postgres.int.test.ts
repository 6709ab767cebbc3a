import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import pg from 'pg'
import { describe, expect, onTestFinished, test } from 'vitest'
import { startPostgres } from './postgres.ts'
import { isRoot, StartError, signalIfAlive } from './process.ts'
import { stopAfterTest, temporaryDirectory } from './testing/temporary.ts'

async function query(url: string, text: string) {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query(text)).rows
  } finally {
    await client.end()
  }
}

test('what was committed survives kill -9 and is there on the same port', async () => {
  const dir = join(temporaryDirectory(), 'postgres')
  const first = stopAfterTest(await startPostgres({ dir }))
  await query(first.url, 'create table kept as select 42 as answer')
  signalIfAlive(first.pid, 'SIGKILL')
  expect((await first.exited).signal).toBe('SIGKILL')
  const second = stopAfterTest(await startPostgres({ dir, port: first.port }))
  expect(second.url).toBe(first.url)
  expect(await query(second.url, 'select answer from kept')).toEqual([{ answer: 42 }])
})

test('commits wait for the disk', async () => {
  const { url } = stopAfterTest(await startPostgres({ dir: join(temporaryDirectory(), 'postgres') }))
  const rows = await query(
    url,
    "select name, setting from pg_settings where name in ('fsync', 'synchronous_commit', 'full_page_writes')",
  )
  expect(rows.map(row => row.setting)).toEqual(['on', 'on', 'on'])
})

test('a server that an earlier run left behind is ended first', async () => {
  const dir = join(temporaryDirectory(), 'postgres')
  const leftover = stopAfterTest(await startPostgres({ dir, durable: false }))
  const next = stopAfterTest(await startPostgres({ dir, durable: false }))
  await leftover.exited
  expect(await query(next.url, 'select 1 as up')).toEqual([{ up: 1 }])
})

test('a pid file whose pid belongs to somebody else by now is no obstacle', async () => {
  const dir = join(temporaryDirectory(), 'postgres')
  const first = stopAfterTest(await startPostgres({ dir, durable: false }))
  signalIfAlive(first.pid, 'SIGKILL')
  await first.exited
  const pidFile = join(dir, 'data/postmaster.pid')
  writeFileSync(pidFile, readFileSync(pidFile, 'utf8').replace(/^\d+/, String(process.ppid)))
  const second = stopAfterTest(await startPostgres({ dir, durable: false }))
  expect(await query(second.url, 'select 1 as up')).toEqual([{ up: 1 }])
})

test('a set-up that was killed half way is done again', async () => {
  const dir = join(temporaryDirectory(), 'postgres')
  for (const half of ['init-abc/base', 'data/base']) mkdirSync(join(dir, half), { recursive: true })
  const server = stopAfterTest(await startPostgres({ dir, durable: false }))
  expect(await query(server.url, 'select 1 as up')).toEqual([{ up: 1 }])
})

test('the password is needed, and only its owner can read it', async () => {
  const dir = join(temporaryDirectory(), 'postgres')
  const { url } = stopAfterTest(await startPostgres({ dir, durable: false }))
  expect(statSync(join(dir, 'password')).mode & 0o077).toBe(0)
  const wrong = new URL(url)
  wrong.password = 'wrong'
  await expect(query(wrong.href, 'select 1')).rejects.toMatchObject({ code: '28P01' })
})

/** A DATA_DIR that only root may enter, so that its data go elsewhere. */
function closedDirectory() {
  const closed = join(temporaryDirectory(), 'closed')
  mkdirSync(closed, { mode: 0o700 })
  return closed
}

async function startIn(dataDir: string, log?: (line: string) => void) {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 })
  const dir = join(dataDir, 'postgres')
  const server = stopAfterTest(await startPostgres({ dir, durable: false, ...(log ? { log } : {}) }))
  const home = realpathSync(dir)
  onTestFinished(() => {
    for (const path of [home, ...setAside(home)]) rmSync(path, { recursive: true, force: true })
  })
  return { ...server, home }
}

async function startAndStopIn(dataDir: string) {
  const { home, stop } = await startIn(dataDir)
  await stop()
  return home
}

/** Where the data that were in `home` are kept for a while. */
const setAside = (home: string) =>
  readdirSync(dirname(home))
    .filter(name => name.startsWith(`${basename(home)}.orphan-`))
    .map(name => join(dirname(home), name))

/** As `cp -a` does: links stay links, and files get another inode. */
const copy = (from: string, to: string) => execFileSync('cp', ['-a', from, to])

describe.runIf(isRoot())('below a directory that only root may enter', { timeout: 180_000 }, () => {
  test('the data go elsewhere and die with it', async () => {
    const closed = closedDirectory()
    const dataDir = join(closed, 'data')
    const first = await startAndStopIn(dataDir)
    expect(first).not.toBe(join(dataDir, 'postgres'))
    expect(await startAndStopIn(dataDir)).toBe(first)
    renameSync(closed, `${closed}.moved`)
    await startAndStopIn(dataDir)
    expect(existsSync(first), 'a directory that was moved keeps its data').toBe(true)
    rmSync(closed, { recursive: true })
    const last = await startAndStopIn(dataDir)
    rmSync(closed, { recursive: true })
    await startAndStopIn(dataDir)
    expect(existsSync(last), 'a directory that was deleted does not').toBe(false)
    const [aside] = setAside(last)
    const longAgo = `${last}.orphan-${Date.now() - 8 * 24 * 3600_000}`
    renameSync(aside!, longAgo)
    await startAndStopIn(dataDir)
    expect(existsSync(longAgo), 'what was set aside is gone after a week').toBe(false)
  })

  test('of a directory and its copy one may use the data, and a deleted original leaves them to the copy', async () => {
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
    const fresh = await startIn(original)
    expect(fresh.home).not.toBe(first.home)
    expect(await query(heir.url, 'select answer from kept')).toEqual([{ answer: 42 }])
    await heir.stop()
    rmSync(original, { recursive: true })
    await startAndStopIn(original)
    expect(existsSync(first.home)).toBe(true)
  })

  test('a copy finds its data again that were set aside before its first start', async () => {
    const closed = closedDirectory()
    const [original, copied] = [join(closed, 'original'), join(closed, 'copied')]
    const first = await startIn(original)
    await query(first.url, 'create table kept as select 42 as answer')
    await first.stop()
    copy(original, copied)
    rmSync(original, { recursive: true })
    await startAndStopIn(original)
    const heir = await startIn(copied)
    expect(heir.home).toBe(first.home)
    expect(await query(heir.url, 'select answer from kept')).toEqual([{ answer: 42 }])
  })

  test('data whose Postgres runs stay where they are, also if their directory was deleted', async () => {
    const dataDir = join(closedDirectory(), 'data')
    const first = await startIn(dataDir)
    rmSync(dataDir, { recursive: true })
    const lines: string[] = []
    const second = await startIn(dataDir, line => lines.push(line))
    expect(second.home).not.toBe(first.home)
    expect(await query(first.url, 'select 1 as up')).toEqual([{ up: 1 }])
    expect(lines.join()).toContain(`pid ${first.pid}`)
  })
})
