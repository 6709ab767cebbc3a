/** `redis+cluster://user:password@host:port,host:port`, or `rediss+cluster` with TLS: some nodes of a cluster. */
export const CLUSTER_URL =
  /^(rediss?)\+cluster:\/\/(?:([^@:/\s]*):([^@/\s]*)@)?([^@:/,\s]+:\d{1,5}(?:,[^@:/,\s]+:\d{1,5})*)\/?$/

export type ClusterAddress = {
  tls: boolean
  username: string
  password: string
  nodes: { host: string; port: number }[]
}

/** @returns null: the URL is not of a cluster */
export function clusterOf(url: string): ClusterAddress | null {
  const [, scheme, username = '', password = '', hosts = ''] = CLUSTER_URL.exec(url) ?? []
  if (scheme === undefined) return null
  return {
    tls: scheme === 'rediss',
    username: unescaped(username),
    password: unescaped(password),
    nodes: hosts.split(',').map(node => {
      const [host, port] = node.split(':') as [string, string]
      return { host, port: Number(port) }
    }),
  }
}

/**
 * `redis+sentinel://user:password@host:port,host:port/master/db`, or `rediss+sentinel` with TLS: some Sentinels of the primary
 * named `master`. The port defaults to 26379 and the database to 0. `?sentinelUsername=` and `?sentinelPassword=` authenticate
 * at the Sentinels themselves.
 */
export const SENTINEL_URL =
  /^(rediss?)\+sentinel:\/\/(?:([^@:/\s]*):([^@/\s]*)@)?([^@:/,?\s]+(?::\d{1,5})?(?:,[^@:/,?\s]+(?::\d{1,5})?)*)\/([^/?\s]+)(?:\/(\d{1,5}))?\/?(?:\?((?:sentinel(?:Username|Password)=[^&\s]*&?)*))?$/

const SENTINEL_PORT = 26_379

export type SentinelAddress = ClusterAddress & {
  /** Name of the primary at the Sentinels. */
  master: string
  db: number
  sentinelUsername: string
  sentinelPassword: string
}

/** @returns null: the URL is not of Sentinels */
export function sentinelOf(url: string): SentinelAddress | null {
  const match = SENTINEL_URL.exec(url)
  if (!match) return null
  const [, scheme, username = '', password = '', hosts = '', master = '', db = '0', query = ''] = match
  const own = new Map(query.split('&').map(part => part.split(/=(.*)/s) as [string, string]))
  return {
    tls: scheme === 'rediss',
    username: unescaped(username),
    password: unescaped(password),
    nodes: hosts.split(',').map(node => {
      const [host, port] = node.split(':') as [string, string | undefined]
      return { host, port: Number(port ?? SENTINEL_PORT) }
    }),
    master: unescaped(master),
    db: Number(db),
    sentinelUsername: unescaped(own.get('sentinelUsername') ?? ''),
    sentinelPassword: unescaped(own.get('sentinelPassword') ?? ''),
  }
}

/** The passwords in the URL of a Redis server, a cluster or Sentinels. */
export function passwordsOf(url: string): string[] {
  const sentinel = sentinelOf(url)
  const password = (sentinel ?? clusterOf(url))?.password ?? (URL.canParse(url) ? unescaped(new URL(url).password) : '')
  return [password, sentinel?.sentinelPassword ?? ''].filter(Boolean)
}

/** Decodes percent-encoding; text with invalid escapes is returned unchanged. */
export function unescaped(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
