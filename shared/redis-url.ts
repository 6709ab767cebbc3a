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
    username: decodeURIComponent(username),
    password: decodeURIComponent(password),
    nodes: hosts.split(',').map(node => {
      const [host, port] = node.split(':') as [string, string]
      return { host, port: Number(port) }
    }),
  }
}
