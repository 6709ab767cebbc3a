import { expect, it } from 'vitest'
import { clusterOf } from './redis-url.ts'

it('reads the nodes, the user and whether with TLS out of a URL of a cluster', () => {
  expect(clusterOf('rediss+cluster://me:pass%2Fword@one.example:7000,10.0.0.2:7001/')).toEqual({
    tls: true,
    username: 'me',
    password: 'pass/word',
    nodes: [
      { host: 'one.example', port: 7000 },
      { host: '10.0.0.2', port: 7001 },
    ],
  })
})

it('takes a URL without a user, and one with a password only', () => {
  expect(clusterOf('redis+cluster://one:7000')).toEqual({
    tls: false,
    username: '',
    password: '',
    nodes: [{ host: 'one', port: 7000 }],
  })
  expect(clusterOf('redis+cluster://:secret@one:7000')).toMatchObject({ username: '', password: 'secret' })
})

it('takes a password whose % is no escape as it is', () => {
  expect(clusterOf('redis+cluster://:100%@one:7000')?.password).toBe('100%')
})

it.each(['redis://one:7000', 'rediss://one:7000', 'redis+cluster://', 'redis+cluster://one', ''])(
  'takes %s for no cluster',
  url => {
    expect(clusterOf(url)).toBeNull()
  },
)
