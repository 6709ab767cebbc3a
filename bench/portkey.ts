import { execFile } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Child, Servers } from './servers.ts'

const VERSION = '1.15.2'
const root = new URL('..', import.meta.url).pathname

/** Starts Portkey's gateway, a proxy without a database, from npm. Installs it into `.data/bench` on first use. */
export async function startPortkey(servers: Servers): Promise<Child> {
  const dir = join(root, '.data/bench', `portkey-${VERSION}`)
  const script = join(dir, 'node_modules/@portkey-ai/gateway/build/start-server.js')
  if (!existsSync(script)) {
    mkdirSync(dir, { recursive: true })
    const flags = ['--no-audit', '--no-fund', '--loglevel=error']
    await promisify(execFile)('npm', ['install', '--prefix', dir, `@portkey-ai/gateway@${VERSION}`, ...flags])
  }
  const port = await freePort()
  return await servers.startScript(
    ['--import', join(root, 'bench/announce.ts'), script, `--port=${port}`, '--headless'],
    {
      ANNOUNCE_PORT: String(port),
      NODE_ENV: 'production',
      TRUSTED_CUSTOM_HOSTS: '127.0.0.1',
    },
  )
}

/** Which provider Portkey calls. */
export const portkeyHeaders = (upstreamUrl: string) => ({
  'x-portkey-provider': 'openai',
  'x-portkey-custom-host': `${upstreamUrl}/v1`,
})

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise(resolve => server.close(resolve))
  return port
}
