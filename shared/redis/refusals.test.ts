import { expect, it } from 'vitest'
import { createRefusals, isNotPrimary } from './refusals.ts'

const READONLY = new Error("READONLY You can't write against a read only replica.")

it.each([
  READONLY.message,
  "READONLY You can't write against a read only replica. script: 3a7f, on @user_script:12.",
  "ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -READONLY You can't write against a read only replica.",
  'UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)',
  "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
  'LOADING Redis is loading the dataset in memory',
  'NOREPLICAS Not enough good replicas to write.',
])('"%s" shows that the server is not the primary', message => {
  expect(isNotPrimary(new Error(message))).toBe(true)
})

it.each([
  "OOM command not allowed when used memory > 'maxmemory'.",
  'MISCONF Redis is configured to save RDB snapshots, but it is currently not able to persist on disk.',
  'ERR unknown command',
  'NOPERM this user has no permissions',
  'WRONGTYPE a key named READONLY',
  'EXECABORT Transaction discarded because of previous errors.',
])('"%s" is no reason to reconnect', message => {
  expect(isNotPrimary(new Error(message))).toBe(false)
})

it('pauses grow up to a bound, and refusals of commands sent together count once', () => {
  let now = 0
  const refusals = createRefusals(() => now)
  expect(refusals.pauseMs()).toBe(0)
  expect([refusals.note(READONLY), refusals.note(READONLY)]).toEqual(['first', 'together'])
  expect(refusals.pauseMs()).toBe(100)
  for (let n = 0; n < 50; n++) {
    now += 2000
    expect(refusals.note(READONLY)).toBe('again')
  }
  expect(refusals.pauseMs()).toBe(2000)
})

it('pauses start anew with the next failover', () => {
  let now = 0
  const refusals = createRefusals(() => now)
  refusals.note(READONLY)
  now += 100
  refusals.note(READONLY)
  now += 70_000
  expect(refusals.pauseMs()).toBe(0)
  expect(refusals.note(READONLY)).toBe('first')
  expect(refusals.note(new Error('ERR no such key'))).toBeNull()
  expect(refusals.pauseMs()).toBe(100)
})
