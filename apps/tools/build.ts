import { spawnSync } from 'node:child_process'
import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

/** `npm run build`: the command line and the client as a package of their own, in `dist`. See docs/decisions/0022. */
const ROOT = resolve(import.meta.dirname, '../..')
const DIST = join(ROOT, 'dist')
/** Dependencies of the command line; the client has none. */
const DEPENDENCIES = ['cli-progress', 'commander']

type Manifest = Record<'name' | 'version' | 'description' | 'license', string> & {
  dependencies: Record<string, string>
}

export const shippedManifest = ({ name, version, license, dependencies }: Manifest) => ({
  name,
  version,
  description: 'Command line and client of Sluice, a job server for LLM calls',
  license,
  type: 'module',
  engines: { node: '>=20.10' },
  bin: { sluice: 'cli/main.js' },
  exports: {
    '.': { types: './client/index.d.ts', default: './client/index.js' },
    './package.json': './package.json',
  },
  files: ['cli', 'client'],
  dependencies: Object.fromEntries(DEPENDENCIES.map(one => [one, dependencies[one]])),
})

/** Output goes to stderr, because the last line of npm's stdout is the name of the tarball. @throws if the command fails */
function run(command: string, args: string[]) {
  const { status, error } = spawnSync(command, args, { cwd: ROOT, stdio: ['ignore', process.stderr, process.stderr] })
  if (error) throw error
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} exited with ${status}`)
}

function build() {
  rmSync(DIST, { recursive: true, force: true })
  run(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.build.json'])
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Manifest
  writeFileSync(join(DIST, 'package.json'), `${JSON.stringify(shippedManifest(manifest), null, 2)}\n`)
  copyFileSync(join(ROOT, 'LICENSE'), join(DIST, 'LICENSE'))
}

/** After `npm pack`: replaces the tarball, which lists all dependencies of the server, with the package in `dist`. */
function repack({ npm_command, npm_config_dry_run, npm_config_pack_destination, INIT_CWD }: NodeJS.ProcessEnv) {
  if (npm_command !== 'pack' || npm_config_dry_run) return
  const to = resolve(INIT_CWD ?? ROOT, npm_config_pack_destination ?? '.')
  run('npm', ['pack', './dist', '--pack-destination', to, '--ignore-scripts', '--silent'])
}

if (import.meta.main) {
  if (process.argv.includes('--repack')) repack(process.env)
  else build()
}
