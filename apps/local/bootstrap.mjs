// What the npm scripts call: runs on the machine's own Node (20 or newer) before anything is installed, gets the packages,
// among them Node 24, and Redis, and hands over. It has no dependencies and no types for that reason.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { findPrometheus, PROMETHEUS_DIR } from './find-prometheus.mjs'
import { findRedis } from './find-redis.mjs'

const ENTRIES = {
  start: 'apps/local/main.ts',
  test: 'apps/local/check.ts',
  docs: 'apps/local/docs.ts',
  render: 'apps/local/deploy/render.ts',
  bench: 'bench/main.ts',
  chaos: 'apps/local/chaos/main.ts',
  migrate: 'apps/local/migrate.ts',
  build: 'apps/local/build.ts',
}
const root = join(dirname(fileURLToPath(import.meta.url)), '../..')
const { env } = process
let child = null
let stopping = false

const say = line => process.stderr.write(`sluice: ${line}\n`)
function fail(line) {
  say(line)
  process.exit(1)
}

function stop(signal) {
  stopping = true
  child?.kill(signal)
}

/** In our process group, so that a terminal's Ctrl-C reaches it even if we are gone. Rejects if it cannot be started. */
const run = (command, args, options) =>
  new Promise((resolve, reject) => {
    child = spawn(command, args, { cwd: root, stdio: 'inherit', ...options })
    child.once('error', reject)
    child.once('exit', (code, signal) => resolve({ code, signal }))
  })

function watchSignals() {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, stop)
  if (!env.npm_lifecycle_event) return
  // npm runs us in a shell, and some shells die of the signal that npm passes on without passing it on to us; and an npm
  // that is killed leaves the shell waiting for us.
  const [parent, npm] = [process.ppid, shellParent()]
  const timer = setInterval(() => {
    if (process.ppid === parent && shellParent() === npm) return
    clearInterval(timer)
    stop('SIGTERM')
  }, 500)
  timer.unref()
}

/** The parent of the shell that npm runs us in; null if that shell made way for us, or where there is no /proc. */
function shellParent() {
  try {
    const proc = `/proc/${process.ppid}`
    if (!readFileSync(`${proc}/cmdline`, 'utf8').includes('bootstrap.mjs')) return null
    return readFileSync(`${proc}/stat`, 'utf8').split(') ').at(-1).split(' ')[1]
  } catch {
    return null
  }
}

function readJson(file) {
  try {
    return JSON.parse(readFileSync(join(root, file), 'utf8'))
  } catch {
    return null
  }
}

/** Compares versions, not times: a checkout touches files, and npm writes its own lock file when it is done. */
function packagesAreCurrent() {
  const wanted = readJson('package-lock.json')?.packages ?? {}
  const installed = readJson('node_modules/.package-lock.json')?.packages
  if (!installed) return false
  return Object.entries(wanted).every(([path, { version, optional, devOptional }]) => {
    if (path === '') return true
    const found = installed[path]
    // Other platforms' binaries stay away.
    return found ? found.version === version : Boolean(optional || devOptional)
  })
}

async function ensurePackages() {
  if (packagesAreCurrent()) return
  say('installing packages (npm install)')
  // Without npm's own lock file in it, an installation was broken off, and npm would take half a package for a whole one.
  if (!existsSync(join(root, 'node_modules/.package-lock.json')))
    rmSync(join(root, 'node_modules'), { recursive: true, force: true })
  // Not `npm ci`: it refuses a lock file that was written where the registry had not every platform's optional binaries.
  // --include=dev: Node 24 is a devDependency, and NODE_ENV=production would leave it out.
  const args = ['install', '--no-save', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error']
  const npm = env.npm_execpath && basename(env.npm_execpath) === 'npm-cli.js' ? env.npm_execpath : null
  const options = { stdio: ['ignore', 'ignore', 'inherit'] }
  // Not process.execPath: within npm that may be the very node_modules/.bin/node that is about to be replaced.
  const { code } = await (npm
    ? run(env.npm_node_execpath ?? process.execPath, [npm, ...args], options)
    : run('npm', args, options)
  ).catch(error => ({ code: error.message }))
  if (stopping) process.exit(1)
  if (code !== 0) fail(`the packages could not be installed (npm install: ${code})`)
}

function privileged() {
  if (process.getuid?.() === 0) return []
  return spawnSync('sudo', ['-n', 'true']).status === 0 ? ['sudo', '-n'] : null
}

async function ensureRedis() {
  if (findRedis()) return
  if (env.TEST_REDIS === 'valkey') fail('TEST_REDIS=valkey: no valkey-server on PATH')
  const sudo = privileged()
  if (sudo && spawnSync('apt-get', ['--version']).status === 0) {
    // redis-tools has the same binary as redis-server, without a system service that would run ever after.
    say('installing Redis (apt-get install redis-tools)')
    const apt = async (...args) => {
      const [command, ...rest] = [...sudo, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-qq', ...args]
      const { code } = await run(command, rest, { stdio: 'ignore' }).catch(() => ({ code: 1 }))
      if (stopping) process.exit(1)
      return code === 0
    }
    const install = () => apt('install', '-y', '--no-install-recommends', 'redis-tools')
    if (!(await install())) (await apt('update')) && (await install())
    if (findRedis()) return
  }
  fail(
    'no redis-server or valkey-server on PATH: install one ' +
      '(Debian, Ubuntu: apt-get install redis-server; macOS: brew install redis)' +
      (['test', 'chaos'].includes(script) ? '' : ', or set REDIS_URL'),
  )
}

/** The alert rules and the dashboards' queries are tested with the real one. Unpacked, not installed: that starts a service. */
async function ensurePrometheus() {
  if (findPrometheus()) return
  say('fetching Prometheus for the tests (apt-get download prometheus)')
  rmSync(PROMETHEUS_DIR, { recursive: true, force: true })
  mkdirSync(PROMETHEUS_DIR, { recursive: true })
  const quiet = { stdio: 'ignore', cwd: PROMETHEUS_DIR }
  const code = async (command, ...args) => {
    const ended = await run(command, args, quiet).catch(() => ({ code: 1 }))
    if (stopping) process.exit(1)
    return ended.code
  }
  const download = () => code('apt-get', '-qq', 'download', 'prometheus')
  const sudo = privileged()
  if ((await download()) !== 0 && sudo) {
    const [command, ...rest] = [...sudo, 'apt-get', '-qq', 'update']
    await code(command, ...rest)
    await download()
  }
  const file = readdirSync(PROMETHEUS_DIR).find(name => name.endsWith('.deb'))
  if (file) await code('dpkg-deb', '-x', file, '.')
  if (file) rmSync(join(PROMETHEUS_DIR, file))
  if (!findPrometheus())
    fail(
      'no prometheus and promtool on PATH, which the tests need: install them (Debian, Ubuntu: apt-get install prometheus; macOS: brew install prometheus)',
    )
}

function node24() {
  const pinned = join(root, 'node_modules/node/bin/node')
  if (existsSync(pinned)) return pinned
  if (Number(process.versions.node.split('.')[0]) >= 24) return process.execPath
  return fail(`Node 24 is needed, this is ${process.version}; the package "node" has none, were its scripts disabled?`)
}

const [script, ...args] = process.argv.slice(2)
const entry = Object.hasOwn(ENTRIES, script ?? '') ? ENTRIES[script] : null
if (!entry) fail(`usage: bootstrap.mjs ${Object.keys(ENTRIES).join(' | ')}`)
watchSignals()
await ensurePackages()
// The tests and the chaos kill and restart a Redis of their own, whatever REDIS_URL says.
if (['test', 'chaos'].includes(script) || (['start', 'bench'].includes(script) && !env.REDIS_URL)) await ensureRedis()
if (script === 'test') await ensurePrometheus()
// The IPC channel tells it when we are gone.
const { code, signal } = await run(node24(), [join(root, entry), ...args], {
  stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
}).catch(error => fail(`Node 24 does not start: ${error.message}`))
if (signal) {
  process.removeAllListeners(signal)
  process.kill(process.pid, signal)
}
process.exitCode = code ?? 1
