import type pg from 'pg'
import { ConfigError } from '#shared/settings/config-error.ts'

/**
 * The state that a connection keeps between transactions. `session`: all of it, with Postgres itself and poolers in session mode.
 * `transaction`: none, because a pooler runs each transaction on any of its connections: no settings, no prepared statements, no
 * session locks.
 */
export type Pooling = 'session' | 'transaction'

/** Not alternating: a pooler that hands out two connections in turn would always give each client the same one. */
const ORDER = [0, 1, 1, 0, 0, 0, 1, 0, 1, 1] as const

/**
 * Detects a pooler between this process and Postgres. A direct connection reports the process id of its server; poolers invent one.
 * Two clients of a pooler in session mode have different servers. If they share a server, or the server of a client changes, the
 * pooler is in transaction mode.
 * @param other opens a second connection; only called behind a pooler
 * @throws ConfigError if the pooler allows no transactions
 */
export async function detectPooling(client: pg.ClientBase, other: () => Promise<pg.Client>): Promise<Pooling> {
  const serverOf = async (one: pg.ClientBase) =>
    Number((await one.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0]?.pid)
  if ((await serverOf(client)) === (client as pg.ClientBase & { processID?: number }).processID) return 'session'
  const second = await other()
  try {
    const clients = [client, second] as const
    const servers = [new Set<number>(), new Set<number>()] as const
    for (const which of ORDER) servers[which].add(await serverOf(clients[which]))
    const [one, two] = servers
    if (one.size === 1 && two.size === 1 && [...one].every(pid => !two.has(pid))) return 'session'
    await client.query('BEGIN').catch(error => {
      throw new ConfigError(
        `DATABASE_URL: the pooler allows no transactions (${(error as Error).message}); set its pool_mode to session or transaction`,
      )
    })
    await client.query('ROLLBACK')
    return 'transaction'
  } finally {
    await second.end().catch(() => {})
  }
}
