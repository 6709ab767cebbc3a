import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { freePort, type Server, signalIfAlive } from '#apps/local/process.ts'
import { startRedis } from '#apps/local/redis.ts'
import { startTcpProxy } from '#shared/testing/tcp-proxy.ts'
import { follow, onServer, promote } from '../setup/failover.ts'
import type { Closers, Restartable } from '../setup/servers.ts'

const PASSWORD = 'chaos'

export type RedisPair = Restartable & {
  /** The primary becomes a replica and keeps its connections; after `forMs` the address leads to the other server. */
  failOver(forMs: number): Promise<void>
  /** The replica stops following, and becomes the primary `lagMs` later without the writes since then. */
  regress(lagMs: number): Promise<void>
}

/** A primary and a replica behind one address, which leads to the primary. */
export async function startRedisPair(dir: string, closers: Closers): Promise<RedisPair> {
  const start = async (name: string, port: number) =>
    startRedis({
      ...{ dir: join(dir, name), role: 'queue' as const, port, password: PASSWORD },
      settings: [`masterauth ${PASSWORD}`, 'repl-diskless-sync-delay 0'],
    })
  const open = async (name: string) => ({ name, server: await start(name, await freePort()) })
  let [primary, replica] = await Promise.all([open('0'), open('1')])
  const proxy = await startTcpProxy(primary.server.port)
  let up = true
  let under: Promise<void> = Promise.resolve()
  closers.push(async () => {
    await under.catch(() => {})
    await proxy.close()
    await Promise.all([primary.server.stop(), replica.server.stop()])
  })
  await follow(replica.server, primary.server)

  /** Runs one change; meanwhile the pair is not `up`. */
  function during(work: () => Promise<void>): Promise<void> {
    up = false
    under = work().finally(() => {
      up = true
    })
    return under
  }
  const swap = () => {
    ;[primary, replica] = [replica, primary]
    proxy.redirect(primary.server.port)
  }

  return {
    url: `redis://:${PASSWORD}@127.0.0.1:${proxy.port}`,
    get up() {
      return up
    },
    async kill() {
      up = false
      signalIfAlive(primary.server.pid, 'SIGKILL')
      await primary.server.exited
    },
    async start() {
      if (up) return
      await under.catch(() => {})
      if (up) return
      under = start(primary.name, primary.server.port).then((server: Server) => {
        primary.server = server
        up = true
      })
      await under
    },
    failOver: forMs =>
      during(async () => {
        await promote(replica.server)
        await onServer(primary.server, redis => redis.replicaof('127.0.0.1', replica.server.port))
        await delay(forMs)
        swap()
        await follow(replica.server, primary.server)
      }),
    regress: lagMs =>
      during(async () => {
        await promote(replica.server)
        await delay(lagMs)
        await proxy.close()
        swap()
        await proxy.open()
        await follow(replica.server, primary.server)
      }),
  }
}
