import { expect, it } from 'vitest'
import { createHostConcurrency } from './host-concurrency.ts'

const OK = { kind: 'answered', status: 200, retryAfterMs: null } as const

it('a host has room for eight deliveries, more if it is fast, and two while it hangs', () => {
  let now = 0
  const hosts = createHostConcurrency(() => now)
  const roomOf = (name: string) => hosts.room().hosts.find(one => one.host === name)
  expect(hosts.room()).toEqual({ perHost: 8, hosts: [] })
  const backs = Array.from({ length: 8 }, () => hosts.begin('a'))
  hosts.begin('b')
  expect([roomOf('a')?.room, roomOf('b')?.room]).toEqual([0, 7])
  now = 10_000
  backs.pop()!({ kind: 'timeout' })
  expect(roomOf('a')).toEqual({ host: 'a', room: 0, seconds: 10 })
  for (const back of backs.splice(0, 6)) back({ kind: 'timeout' })
  expect(roomOf('a')?.room).toBe(1)
  backs.pop()!(OK)
  expect(roomOf('a')?.room).toBe(8)
  hosts.begin('a')(OK)
  expect(roomOf('a')).toEqual({ host: 'a', room: 32, seconds: 0 })
})

it('forgets the least recently used hosts, except those with deliveries in flight', () => {
  const hosts = createHostConcurrency()
  hosts.begin('busy')
  for (let n = 0; n < 3000; n++) hosts.begin(`host-${n}`)(OK)
  const names = hosts.room().hosts.map(one => one.host)
  expect(names).toHaveLength(200)
  expect(names).toEqual(expect.arrayContaining(['busy', 'host-2999']))
})
