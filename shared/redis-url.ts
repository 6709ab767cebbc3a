/** `redis+cluster://user:password@host:port,host:port`, and `rediss+cluster` with TLS: some of a cluster's nodes. */
export const CLUSTER_URL =
  /^(rediss?)\+cluster:\/\/(?:([^@:/\s]*):([^@/\s]*)@)?([^@:/,\s]+:\d{1,5}(?:,[^@:/,\s]+:\d{1,5})*)\/?$/

export type ClusterAddress = {
  tls: boolean
  username: string
  password: string
  nodes: { host: string; port: number }[]
}

/** null: it is of a single server. */
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

/** What stands in a URL with its `%..` read; text whose `%` are no escapes stays as it is. */
export function unescaped(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
