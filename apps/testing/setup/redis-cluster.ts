import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { freePort, type Server, StartError } from '#apps/local/process.ts'
import { startRedis } from '#apps/local/redis.ts'
import { createLogger } from '#shared/process/logger.ts'
import { closeRedis, connectRedis } from '#shared/redis/connect.ts'

/** Slots of a Redis Cluster. */
const SLOTS = 16_384
const MASTERS = 3
const READY_WITHIN_MS = 30_000
const PASSWORD = 'cluster'
const logger = createLogger({ level: 'silent', name: 'cluster' })

export type RedisCluster = { url: string; nodes: Server[]; stop(): Promise<void> }

/**
 * Runs three masters on this machine that share the slots, without replicas: for tests.
 * @throws StartError
 */
export async function startRedisCluster(o: {
  dir: string
  /** Further lines of a node's configuration. */
  settings?: (node: number) => string[]
}): Promise<RedisCluster> {
  const ports: number[] = []
  while (ports.length < MASTERS) {
    const port = await freePort()
    if (!ports.includes(port)) ports.push(port)
  }
  const nodes = await Promise.all(
    Array.from({ length: MASTERS }, (_, n) =>
      startRedis({
        dir: join(o.dir, `${n}`),
        role: 'queue',
        password: PASSWORD,
        settings: [
          'cluster-enabled yes',
          'cluster-node-timeout 2000',
          `cluster-port ${ports[n]}`,
          ...(o.settings?.(n) ?? []),
        ],
      }),
    ),
  )
  const stop = async () => void (await Promise.all(nodes.map(node => node.stop())))
  const clients = nodes.map(node => connectRedis({ url: node.url, role: 'blocking', name: 'cluster', logger }))
  try {
    await Promise.all(
      clients.map(async (client, n) => {
        const from = Math.ceil((SLOTS * n) / MASTERS)
        const to = Math.ceil((SLOTS * (n + 1)) / MASTERS) - 1
        await client.cluster('ADDSLOTSRANGE', from, to)
        // With equal epochs, the nodes would first have to resolve the conflict.
        await client.call('CLUSTER', 'SET-CONFIG-EPOCH', n + 1)
      }),
    )
    for (const n of nodes.keys())
      if (n > 0) await clients[0]!.call('CLUSTER', 'MEET', '127.0.0.1', nodes[n]!.port, ports[n]!)
    const deadline = Date.now() + READY_WITHIN_MS
    const agree = async () => {
      const infos = await Promise.all(clients.map(client => client.cluster('INFO')))
      return infos.every(info => /cluster_state:ok/.test(info) && /cluster_known_nodes:3/.test(info))
    }
    while (!(await agree())) {
      if (Date.now() > deadline) throw new StartError('the nodes of the Redis cluster do not agree')
      await delay(50)
    }
  } catch (error) {
    await stop()
    throw error
  } finally {
    for (const client of clients) closeRedis(client)
  }
  const hosts = nodes.map(node => `127.0.0.1:${node.port}`).join(',')
  return { url: `redis+cluster://:${PASSWORD}@${hosts}`, nodes, stop }
}
