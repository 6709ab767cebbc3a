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
  readlinkSync,
  realpathSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { commandOf, isRoot, readPid, StartError, serverEnv, writeAtomic } from './process.ts'

export type Owner = { uid: number; gid: number }
type Log = (line: string) => void

/** Root's own directories are closed to everybody else; this one is not. */
const REACHABLE = '/var/lib/sluice'
const MARKER = 'belongs-to'
/** Of data that were set aside, with the time in ms. */
const ORPHAN = /\.orphan-(\d+)$/
const ORPHANS_KEPT_MS = 7 * 24 * 3600_000

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

/**
 * Makes `dir`, or a symbolic link there to a directory that `owner` can reach, and returns the real path.
 * @throws StartError if another DATA_DIR, of which this is a copy, uses the directory that the link leads to
 */
export function placeHome(dir: string, owner: Owner | null, log: Log): string {
  const home = place(dir, owner, log)
  if (owner && existsSync(REACHABLE)) removeOrphans(dir, home, log)
  return home
}

function place(dir: string, owner: Owner | null, log: Log): string {
  if (lstatSync(dir, { throwIfNoEntry: false })?.isSymbolicLink()) {
    const target = readlinkSync(dir)
    const ours = owner && dirname(target) === REACHABLE
    if (ours) putBack(target, log)
    if (existsSync(dir)) {
      const home = realpathSync(dir)
      if (ours) claim(home, dir, log)
      return home
    }
    log(`${dir} points to a directory that is gone; starting with an empty one`)
    rmSync(dir)
  }
  mkdirSync(dir, { recursive: true, mode: owner ? 0o711 : 0o700 })
  if (!owner) return realpathSync(dir)
  chmodSync(dir, 0o711)
  if (mayEnter(owner, dir)) return realpathSync(dir)
  if (existsSync(join(dir, 'data')))
    throw new StartError(`the user of Postgres cannot reach its data in ${dir}: open the directories above it`)
  return relocate(dir, log)
}

function relocate(dir: string, log: Log): string {
  makeReachable()
  const home = mkdtempSync(join(REACHABLE, 'data-'))
  chmodSync(home, 0o711)
  mark(home, dir, log)
  rmdirSync(dir)
  symlinkSync(home, dir)
  return home
}

/** Notes in `home` whose it is. A hard link to the note lies in DATA_DIR and goes along when that is moved. */
function mark(home: string, dir: string, log: Log) {
  const marker = join(home, MARKER)
  writeAtomic(marker, dir)
  rmSync(`${dir}.home`, { force: true })
  try {
    linkSync(marker, `${dir}.home`)
  } catch {
    // On another file system. Without a link to miss, nobody can tell that DATA_DIR is gone: the data never are orphans.
    const instead = `${marker}.link`
    rmSync(instead, { force: true })
    linkSync(marker, instead)
    log(`if you delete ${dirname(dir)}, delete ${home} too`)
  }
}

/** Makes sure that `home` is that of `dir`, whose link leads there: the links of a moved DATA_DIR and of a copy do, too. */
function claim(home: string, dir: string, log: Log) {
  const marker = join(home, MARKER)
  const { nlink } = statSync(marker, { throwIfNoEntry: false }) ?? {}
  const holder = nlink ? readFileSync(marker, 'utf8') : null
  if (holder === dir && nlink !== 1) return
  if (holder && leadsTo(holder, home) && !isSameEntry(holder, dir)) {
    const [own, other] = [dirname(dir), dirname(holder)]
    throw new StartError(
      `${own} is a copy of ${other}, and both would use the data in ${home}: set DATA_DIR to an empty directory, or delete ${other} if this is to take its place`,
    )
  }
  mark(home, dir, log)
}

function leadsTo(link: string, home: string): boolean {
  try {
    return realpathSync(link) === home
  } catch {
    return false
  }
}

/** One DATA_DIR has several paths where a directory above it is linked or mounted. */
function isSameEntry(a: string, b: string): boolean {
  const [one, other] = [lstatSync(a), lstatSync(b)]
  return one.ino === other.ino && one.dev === other.dev
}

/**
 * Sets aside the data of DATA_DIRs at this path that were deleted, and removes what was set aside long enough ago. One
 * that was only moved away keeps its data, so the path in the marker is not enough: as long as the hard link in DATA_DIR
 * exists, the marker's link count is not 1. A copy has no such link; it finds its data where they were set aside.
 */
function removeOrphans(dir: string, own: string, log: Log) {
  for (const name of readdirSync(REACHABLE)) {
    const home = join(REACHABLE, name)
    const setAside = ORPHAN.exec(name)
    if (setAside) {
      if (Date.now() - Number(setAside[1]) < ORPHANS_KEPT_MS) continue
      rmSync(home, { recursive: true, force: true })
      log(`removed ${home}, the data of a directory that was deleted`)
      continue
    }
    const marker = join(home, MARKER)
    const { nlink } = statSync(marker, { throwIfNoEntry: false }) ?? {}
    if (nlink !== 1 || readFileSync(marker, 'utf8') !== dir || realpathSync(home) === own) continue
    const pid = readPid(join(home, 'data/postmaster.pid'))
    if (pid && commandOf(pid)?.includes('postgres')) {
      log(`${home} belonged to a ${dirname(dir)} that was deleted, but its Postgres runs (pid ${pid}); leaving both`)
      continue
    }
    const aside = `${home}.orphan-${Date.now()}`
    renameSync(home, aside)
    log(`${home} belonged to a ${dirname(dir)} that was deleted; it is kept for a week as ${aside}`)
  }
}

function putBack(home: string, log: Log) {
  if (existsSync(home) || !existsSync(REACHABLE)) return
  const aside = readdirSync(REACHABLE).find(name => name.replace(ORPHAN, '') === basename(home))
  if (!aside) return
  renameSync(join(REACHABLE, aside), home)
  log(`${home} had been set aside and is back`)
}
