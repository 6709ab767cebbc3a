import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort, type Server, signalIfAlive } from '#apps/local/process.ts'
import { startWatchdog, type Watchdog } from '#apps/local/watchdog.ts'

/** Functions that stop servers and remove their data, the last one first. */
export type Closers = (() => unknown)[]

export async function closeAll(closers: Closers): Promise<void> {
  for (let close = closers.pop(); close; close = closers.pop()) await close()
}

/** Files in which servers below a directory write their pids. */
const PID_FILES = [
  'postgres/data/postmaster.pid',
  ...['.', 'queue', 'redis', 'redis/0', 'redis/1', 'redis/2', 'cache', '0', '1', '2'].map(dir =>
    join(dir, 'redis.pid'),
  ),
]

/** A directory for servers. If this process is killed, a watchdog ends the servers and removes the directory. */
export function serverDirectory(closers: Closers, name = 'test'): { dir: string; held: Watchdog['held'] } {
  const dir = mkdtempSync(join(tmpdir(), `sluice-${name}-`))
  // Under root, Postgres runs as another user, which must be able to enter the directory.
  chmodSync(dir, 0o711)
  const watchdog = startWatchdog({ pidFiles: PID_FILES.map(file => join(dir, file)), remove: dir })
  closers.push(() => {
    watchdog.dismiss()
    rmSync(dir, { recursive: true, force: true })
  })
  return { dir, held: watchdog.held }
}

/** A server that can be killed and started again at its address. */
export type Restartable = {
  readonly url: string
  readonly up: boolean
  /** kill -9, its children too; resolves when it has ended. */
  kill(): Promise<void>
  /** Does nothing if the server runs. */
  start(): Promise<void>
}

export async function restartable(starter: (port: number) => Promise<Server>, closers: Closers): Promise<Restartable> {
  let server = await starter(await freePort())
  let up = true
  let starting: Promise<void> | null = null
  closers.push(async () => {
    await starting
    await server.stop()
  })
  return {
    url: server.url,
    get up() {
      return up
    },
    async kill() {
      up = false
      // All at once: backends that outlive their postmaster would shut down cleanly.
      for (const pid of [server.pid, ...childrenOf(server.pid)]) signalIfAlive(pid, 'SIGKILL')
      await server.exited
    },
    async start() {
      if (up) return
      starting = starter(server.port).then(next => {
        server = next
        up = true
      })
      await starting
    },
  }
}

function childrenOf(pid: number): number[] {
  try {
    const pids = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    return pids.trim().split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}
