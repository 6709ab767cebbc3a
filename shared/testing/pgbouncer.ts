import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, copyFileSync, cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inject } from 'vitest'

/**
 * A PgBouncer in front of the database of `url`. It is ready when its port answers.
 * @throws if there is no pgbouncer; `npm test` fetches it
 */
export async function startPgBouncer(
  url: string,
  { mode, poolSize = 20 }: { mode: 'session' | 'transaction' | 'statement'; poolSize?: number },
): Promise<{ url: string; close(): Promise<void> }> {
  const found = inject('pgbouncer')
  if (!found) throw new Error('no pgbouncer: run the tests by `npm test`, which fetches it')
  const target = new URL(url)
  const dir = mkdtempSync(join(tmpdir(), 'sluice-pgbouncer-'))
  const port = await freePort()
  const database = target.pathname.slice(1)
  const ini = join(dir, 'pgbouncer.ini')
  writeFileSync(join(dir, 'users'), `"${target.username}" "${decodeURIComponent(target.password)}"\n`)
  writeFileSync(
    ini,
    `[databases]
${database} = host=${target.hostname} port=${target.port || 5432} dbname=${database}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
auth_type = plain
auth_file = ${join(dir, 'users')}
pool_mode = ${mode}
default_pool_size = ${poolSize}
unix_socket_dir =
`,
  )
  // It refuses to run as root.
  const isRoot = process.getuid?.() === 0
  chmodSync(dir, 0o711)
  for (const file of [ini, join(dir, 'users')]) chmodSync(file, 0o644)
  const child = spawn(isRoot ? reachable(found, dir) : found.command, ['-q', ini], {
    stdio: 'ignore',
    env: found.libraries ? { LD_LIBRARY_PATH: isRoot ? join(dir, 'lib') : found.libraries } : {},
    ...(isRoot && { uid: 65_534, gid: 65_534 }),
  })
  const exited = once(child, 'exit')
  const failed = exited.then(([code]) => Promise.reject(new Error(`pgbouncer ended with ${code}`)))
  failed.catch(() => {})
  await Promise.race([answers(port), failed])
  const through = new URL(url)
  through.hostname = '127.0.0.1'
  through.port = String(port)
  return {
    url: through.href,
    async close() {
      child.kill('SIGKILL')
      await exited
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

/** A copy that other users can run: a clone may be in a folder that only root can enter. */
function reachable({ command, libraries }: { command: string; libraries: string }, dir: string): string {
  const copy = join(dir, 'pgbouncer')
  copyFileSync(command, copy)
  chmodSync(copy, 0o755)
  for (const folder of libraries.split(':').filter(one => one !== '' && existsSync(one)))
    cpSync(folder, join(dir, 'lib'), { recursive: true, verbatimSymlinks: true })
  return copy
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

async function answers(port: number): Promise<void> {
  const { connect } = await import('node:net')
  for (;;) {
    const socket = connect(port, '127.0.0.1')
    const open = await once(socket, 'connect').then(
      () => true,
      () => false,
    )
    socket.destroy()
    if (open) return
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}
