// Entry point of the npm scripts. It runs on the Node of the machine (20 or newer) before anything is installed, installs
// the packages, among them Node 24, and Redis, and starts the script. It therefore has no dependencies and no types.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { findPgBouncer, PGBOUNCER_DIR } from './find-pgbouncer.mjs'
import { findPrometheus, PROMETHEUS_DIR } from './find-prometheus.mjs'
import { findRedis } from './find-redis.mjs'

const ENTRIES = {
  start: 'apps/local/main.ts',
  test: 'apps/tools/check.ts',
  docs: 'apps/tools/docs.ts',
  render: 'apps/tools/deploy/render.ts',
  bench: 'bench/main.ts',
  chaos: 'apps/testing/chaos/main.ts',
  migrate: 'apps/local/migrate.ts',
  build: 'apps/tools/build.ts',
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

/** In the same process group, so that Ctrl-C reaches the child even if this process is gone. Rejects if it does not start. */
const run = (command, args, options) =>
  new Promise((resolve, reject) => {
    child = spawn(command, args, { cwd: root, stdio: 'inherit', ...options })
    child.once('error', reject)
    child.once('exit', (code, signal) => resolve({ code, signal }))
  })

function watchSignals() {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, stop)
  if (!env.npm_lifecycle_event) return
  // npm runs this script in a shell. Some shells die of the signal that npm sends without forwarding it, and a killed npm
  // leaves the shell waiting.
  const [parent, npm] = [process.ppid, shellParent()]
  const timer = setInterval(() => {
    if (process.ppid === parent && shellParent() === npm) return
    clearInterval(timer)
    stop('SIGTERM')
  }, 500)
  timer.unref()
}

/** The parent of the shell in which npm runs this script; null if the shell replaced itself, or without /proc. */
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

/** Compares versions, not times: a checkout changes times, and npm writes its own lock file at the end. */
function packagesAreCurrent() {
  const wanted = readJson('package-lock.json')?.packages ?? {}
  const installed = readJson('node_modules/.package-lock.json')?.packages
  if (!installed) return false
  return Object.entries(wanted).every(([path, { version, optional, devOptional }]) => {
    if (path === '') return true
    const found = installed[path]
    // Binaries of other platforms are not installed.
    return found ? found.version === version : Boolean(optional || devOptional)
  })
}

async function ensurePackages() {
  if (packagesAreCurrent()) return
  say('installing packages (npm install)')
  // Without npm's own lock file, an installation was interrupted, and npm would take incomplete packages for complete ones.
  if (!existsSync(join(root, 'node_modules/.package-lock.json')))
    rmSync(join(root, 'node_modules'), { recursive: true, force: true })
  // Not `npm ci`, which refuses a lock file from a registry without the optional binaries of every platform.
  // --include=dev: Node 24 is a devDependency, and NODE_ENV=production would leave it out.
  const args = ['install', '--no-save', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error']
  const npm = env.npm_execpath && basename(env.npm_execpath) === 'npm-cli.js' ? env.npm_execpath : null
  const options = { stdio: ['ignore', 'ignore', 'inherit'] }
  // Not process.execPath: within npm that may be the node_modules/.bin/node that is about to be replaced.
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
    // redis-tools has the same binary as redis-server, without a system service.
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

/** Unpacks Debian's packages into a folder: installing them would start a service. */
async function unpack(dir, packages) {
  rmSync(dir, { recursive: true, force: true })
  mkdirSync(dir, { recursive: true })
  const quiet = { stdio: 'ignore', cwd: dir }
  const code = async (command, ...args) => {
    const ended = await run(command, args, quiet).catch(() => ({ code: 1 }))
    if (stopping) process.exit(1)
    return ended.code
  }
  const download = () => code('apt-get', '-qq', 'download', ...packages)
  const sudo = privileged()
  if ((await download()) !== 0 && sudo) {
    const [command, ...rest] = [...sudo, 'apt-get', '-qq', 'update']
    await code(command, ...rest)
    await download()
  }
  for (const file of readdirSync(dir).filter(name => name.endsWith('.deb'))) {
    await code('dpkg-deb', '-x', file, '.')
    rmSync(join(dir, file))
  }
}

/** Alert rules and dashboard queries are tested with the real Prometheus. */
async function ensurePrometheus() {
  if (findPrometheus()) return
  say('fetching Prometheus for the tests (apt-get download prometheus)')
  await unpack(PROMETHEUS_DIR, ['prometheus'])
  if (!findPrometheus())
    fail(
      'no prometheus and promtool on PATH, which the tests need: install them (Debian, Ubuntu: apt-get install prometheus; macOS: brew install prometheus)',
    )
}

/** With libraries that a minimal system lacks. */
const PGBOUNCER_PACKAGES = ['pgbouncer', 'libc-ares2', 'libevent-2.1-7']

async function ensurePgBouncer() {
  if (findPgBouncer()) return
  say('fetching PgBouncer for the tests (apt-get download pgbouncer)')
  // The names of the libraries differ between Debian's releases.
  await unpack(PGBOUNCER_DIR, PGBOUNCER_PACKAGES)
  if (!findPgBouncer())
    await unpack(
      PGBOUNCER_DIR,
      PGBOUNCER_PACKAGES.map(name => (name.startsWith('lib') ? `${name}t64` : name)),
    )
  if (!findPgBouncer()) await unpack(PGBOUNCER_DIR, PGBOUNCER_PACKAGES.slice(0, 1))
  if (!findPgBouncer())
    fail(
      'no pgbouncer on PATH, which the tests need: install it (Debian, Ubuntu: apt-get install pgbouncer; macOS: brew install pgbouncer)',
    )
}

function node24() {
  const pinned = join(root, 'node_modules/node/bin/node')
  if (existsSync(pinned)) return pinned
  if (Number(process.versions.node.split('.')[0]) >= 24) return process.execPath
  return fail(
    `Node 24 is needed, this is ${process.version}; the package "node" has no binary, perhaps because install scripts are disabled`,
  )
}

const [script, ...args] = process.argv.slice(2)
const entry = Object.hasOwn(ENTRIES, script ?? '') ? ENTRIES[script] : null
if (!entry) fail(`usage: bootstrap.mjs ${Object.keys(ENTRIES).join(' | ')}`)
watchSignals()
await ensurePackages()
// Tests and chaos kill and restart their own Redis, even if REDIS_URL is set.
if (['test', 'chaos'].includes(script) || (['start', 'bench'].includes(script) && !env.REDIS_URL)) await ensureRedis()
if (script === 'test') {
  await ensurePrometheus()
  await ensurePgBouncer()
}
// The script stops when the IPC channel closes, because this process is gone.
const { code, signal } = await run(node24(), [join(root, entry), ...args], {
  stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
}).catch(error => fail(`Node 24 does not start: ${error.message}`))
if (signal) {
  process.removeAllListeners(signal)
  process.kill(process.pid, signal)
}
process.exitCode = code ?? 1
