import { expect, it } from 'vitest'
import { clusterOf, passwordsOf, sentinelOf } from './url.ts'

it('a cluster URL gives the nodes, the user and whether TLS is used', () => {
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

it('a cluster URL may have no user, or only a password', () => {
  expect(clusterOf('redis+cluster://one:7000')).toEqual({
    tls: false,
    username: '',
    password: '',
    nodes: [{ host: 'one', port: 7000 }],
  })
  expect(clusterOf('redis+cluster://:secret@one:7000')).toMatchObject({ username: '', password: 'secret' })
})

it('a password whose % is no escape is kept as written', () => {
  expect(clusterOf('redis+cluster://:100%@one:7000')?.password).toBe('100%')
})

it.each(['redis://one:7000', 'rediss://one:7000', 'redis+cluster://', 'redis+cluster://one', ''])(
  'takes %s for no cluster',
  url => {
    expect(clusterOf(url)).toBeNull()
  },
)

it('a Sentinel URL gives the Sentinels, the name of the primary, the database and both passwords', () => {
  expect(
    sentinelOf(
      'rediss+sentinel://me:pass%2Fword@one.example:26380,two/my-master/3?sentinelUsername=s&sentinelPassword=t%3D',
    ),
  ).toEqual({
    tls: true,
    username: 'me',
    password: 'pass/word',
    nodes: [
      { host: 'one.example', port: 26_380 },
      { host: 'two', port: 26_379 },
    ],
    master: 'my-master',
    db: 3,
    sentinelUsername: 's',
    sentinelPassword: 't=',
  })
  expect(sentinelOf('redis+sentinel://one/main')).toMatchObject({ password: '', master: 'main', db: 0, tls: false })
})

it.each([
  'redis://one:26379/main',
  'redis+cluster://one:7000',
  'redis+sentinel://one:26379',
  'redis+sentinel://one:26379/',
  'redis+sentinel:///main',
  'redis+sentinel://one/main/zero',
  'redis+sentinel://one/main?db=1',
])('%s is no Sentinel URL', url => {
  expect(sentinelOf(url)).toBeNull()
})

it('every password of a URL is found, so that the log can mask it', () => {
  expect(passwordsOf('redis://:a%20b@one')).toEqual(['a b'])
  expect(passwordsOf('redis+cluster://:c@one:1')).toEqual(['c'])
  expect(passwordsOf('redis+sentinel://u:d@one/main?sentinelPassword=e')).toEqual(['d', 'e'])
  expect(passwordsOf('redis://one')).toEqual([])
})
