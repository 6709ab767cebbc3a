import { readFileSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { stopAfterTest, temporaryDirectory } from '#apps/testing/setup/temporary.ts'
import { commandOf, type Server, signalIfAlive } from './process.ts'
import { startRedis } from './redis.ts'

/** Sends inline commands and resolves to the raw replies. */
const redis = (server: Server, ...commands: string[]) =>
  new Promise<string>((resolve, reject) => {
    const socket = connect(server.port, '127.0.0.1')
    let replies = ''
    socket.on('data', chunk => (replies += chunk))
    socket.on('close', () => resolve(replies))
    socket.on('error', reject)
    const { password } = new URL(server.url)
    socket.end(`${[`AUTH ${password}`, ...commands, 'QUIT'].join('\r\n')}\r\n`)
  })

test('the queue survives kill -9 and is there on the same port', async () => {
  const dir = temporaryDirectory()
  const first = stopAfterTest(await startRedis({ dir, role: 'queue' }))
  // It writes to the file before it answers; everysec only says when the disk has it, which matters to a power cut.
  await redis(first, 'SET kept 42')
  signalIfAlive(first.pid, 'SIGKILL')
  expect((await first.exited).signal).toBe('SIGKILL')
  const second = stopAfterTest(await startRedis({ dir, role: 'queue', port: first.port }))
  expect(second.url).toBe(first.url)
  expect(await redis(second, 'GET kept')).toContain('42')
})

test('a full queue refuses writes, a full cache evicts', async () => {
  const dir = temporaryDirectory()
  const queue = stopAfterTest(await startRedis({ dir: join(dir, 'queue'), role: 'queue' }))
  const cache = stopAfterTest(await startRedis({ dir: join(dir, 'cache'), role: 'cache', maxMemoryMb: 8 }))
  expect(await redis(queue, 'CONFIG GET maxmemory-policy')).toContain('noeviction')
  expect(await redis(cache, 'CONFIG GET maxmemory-policy')).toContain('allkeys-lru')
  expect(await redis(cache, 'CONFIG GET maxmemory')).toContain(String(8 * 1024 * 1024))
})

test('a server that an earlier run left behind is stopped first', async () => {
  const dir = temporaryDirectory()
  const leftover = stopAfterTest(await startRedis({ dir, role: 'queue' }))
  const next = stopAfterTest(await startRedis({ dir, role: 'queue' }))
  await leftover.exited
  expect(await redis(next, 'PING')).toContain('+PONG')
})

test('the password is not in the command line, and only its owner can read it', async () => {
  const dir = temporaryDirectory()
  const server = stopAfterTest(await startRedis({ dir, role: 'queue' }))
  const password = readFileSync(join(dir, 'password'), 'utf8').trim()
  expect(commandOf(server.pid)).not.toContain(password)
  for (const file of ['password', 'redis.conf']) expect(statSync(join(dir, file)).mode & 0o077).toBe(0)
})
