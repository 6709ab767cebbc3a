import { existsSync, mkdirSync, readFileSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { expect, onTestFinished, test } from 'vitest'
import { startPostgres } from './postgres.ts'
import { isRoot, signalIfAlive } from './process.ts'
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

test.runIf(isRoot())(
  'below a directory that only root may enter, the data go elsewhere and die with it',
  {
    timeout: 180_000,
  },
  async () => {
    const closed = join(temporaryDirectory(), 'closed')
    const dir = join(closed, 'data/postgres')
    const startAndStop = async () => {
      mkdirSync(closed, { recursive: true, mode: 0o700 })
      await stopAfterTest(await startPostgres({ dir, durable: false })).stop()
      const home = realpathSync(dir)
      onTestFinished(() => rmSync(home, { recursive: true, force: true }))
      return home
    }
    const first = await startAndStop()
    expect(first).not.toBe(dir)
    expect(await startAndStop()).toBe(first)
    renameSync(closed, `${closed}.moved`)
    await startAndStop()
    expect(existsSync(first), 'a directory that was moved keeps its data').toBe(true)
    rmSync(closed, { recursive: true })
    const last = await startAndStop()
    rmSync(closed, { recursive: true })
    await startAndStop()
    expect(existsSync(last), 'a directory that was deleted does not').toBe(false)
  },
)
