import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { isRoot, StartError, serverEnv } from './process.ts'

export type Owner = { uid: number; gid: number }
type Log = (line: string) => void

/** Root's own directories are closed to everybody else; this one is not. */
const REACHABLE = '/var/lib/sluice'
const MARKER = 'belongs-to'

/** Whom Postgres runs as; null: as ourselves. It refuses to run as root. */
export function postgresOwner(dir: string): Owner | null {
  if (!isRoot()) return null
  // Data that were made by a user before `sudo npm start` stay that user's.
  const made = statSync(join(dir, 'data'), { throwIfNoEntry: false })
  if (made && made.uid !== 0) return { uid: made.uid, gid: made.gid }
  return systemUser() ?? createSystemUser()
}

function systemUser(): Owner | null {
  const ids = ['-u', '-g'].map(flag => spawnSync('id', [flag, 'postgres'], { encoding: 'utf8' }))
  const [uid, gid] = ids.map(({ status, stdout }) => (status === 0 ? Number(stdout) : null))
  return uid && gid ? { uid, gid } : null
}

function createSystemUser(): Owner {
  const made = spawnSync(
    'useradd',
    ['--system', '--user-group', '--no-create-home', '--shell', '/usr/sbin/nologin', 'postgres'],
    { encoding: 'utf8', env: { ...serverEnv, PATH: `${serverEnv.PATH}:/usr/sbin:/sbin` } },
  )
  const owner = systemUser()
  if (owner) return owner
  const why = made.error?.message ?? made.stderr.trim()
  throw new StartError(
    `Postgres does not run as root, and no user "postgres" could be created (${why}): create it, run as another user, or set DATABASE_URL`,
  )
}

const mayEnter = (owner: Owner, path: string) =>
  spawnSync('sh', ['-c', 'test -x "$1"', 'sh', path], { ...owner, cwd: '/', env: serverEnv }).status === 0

/** The directory of the Postgres programs, copied to where `owner` may run them if need be. */
export function reachableBinaries(original: string, version: string, owner: Owner | null): string {
  if (!owner || mayEnter(owner, join(original, 'bin/postgres'))) return original
  const copy = join(REACHABLE, `postgres-${version}-${process.platform}-${process.arch}`)
  if (!existsSync(copy)) {
    makeReachable()
    const partial = mkdtempSync(`${copy}.`)
    cpSync(original, partial, { recursive: true, verbatimSymlinks: true })
    execFileSync('chmod', ['-R', 'a+rX', partial])
    try {
      renameSync(partial, copy)
    } catch (error) {
      rmSync(partial, { recursive: true, force: true })
      // Somebody else copied the same version meanwhile.
      if (!existsSync(copy)) throw error
    }
  }
  if (mayEnter(owner, join(copy, 'bin/postgres'))) return copy
  throw new StartError(`the user of Postgres can run it neither from ${original} nor from ${copy}: set DATABASE_URL`)
}

function makeReachable() {
  mkdirSync(REACHABLE, { recursive: true, mode: 0o755 })
  chmodSync(REACHABLE, 0o755)
}

/** Makes `dir`, or a symbolic link there to a directory that `owner` can reach, and returns the real path. */
export async function placeHome(
  dir: string,
  owner: Owner | null,
  o: { log: Log; beforeRemoval: (home: string) => Promise<void> },
): Promise<string> {
  const there = lstatSync(dir, { throwIfNoEntry: false })
  if (there?.isSymbolicLink()) {
    if (existsSync(dir)) return realpathSync(dir)
    o.log(`${dir} points to a directory that is gone; starting with an empty one`)
    rmSync(dir)
  }
  mkdirSync(dir, { recursive: true, mode: owner ? 0o711 : 0o700 })
  if (!owner) return realpathSync(dir)
  chmodSync(dir, 0o711)
  if (mayEnter(owner, dir)) return realpathSync(dir)
  if (existsSync(join(dir, 'data')))
    throw new StartError(`the user of Postgres cannot reach its data in ${dir}: open the directories above it`)
  rmSync(`${dir}.home`, { force: true })
  await removeOrphans(dir, o)
  return relocate(dir, o.log)
}

function relocate(dir: string, log: Log): string {
  makeReachable()
  const home = mkdtempSync(join(REACHABLE, 'data-'))
  chmodSync(home, 0o711)
  writeFileSync(join(home, MARKER), dir)
  rmdirSync(dir)
  symlinkSync(home, dir)
  try {
    linkSync(join(home, MARKER), `${dir}.home`)
  } catch {
    rmSync(join(home, MARKER))
    log(`if you delete ${dirname(dir)}, delete ${home} too`)
  }
  return home
}

/**
 * Removes the data whose DATA_DIR was deleted. A DATA_DIR that was only moved away must keep its data, so the path in
 * the marker is not enough: the marker has a hard link in DATA_DIR, and only when that is gone is its link count 1.
 */
async function removeOrphans(dir: string, o: { log: Log; beforeRemoval: (home: string) => Promise<void> }) {
  if (!existsSync(REACHABLE)) return
  for (const name of readdirSync(REACHABLE)) {
    const home = join(REACHABLE, name)
    const marker = join(home, MARKER)
    const { nlink } = statSync(marker, { throwIfNoEntry: false }) ?? {}
    if (nlink !== 1 || readFileSync(marker, 'utf8') !== dir) continue
    await o.beforeRemoval(home)
    rmSync(home, { recursive: true, force: true })
    o.log(`removed ${home}, which belonged to a ${dirname(dir)} that was deleted`)
  }
}
