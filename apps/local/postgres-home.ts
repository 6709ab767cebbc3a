import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { isRoot, StartError, serverEnv, writeAtomic } from './process.ts'

export type Owner = { uid: number; gid: number }

/**
 * Where root's Postgres runs from and keeps its data. It runs as another user, which can enter this directory, but perhaps
 * neither the clone nor DATA_DIR.
 */
const ROOT_DIR = '/var/lib/sluice'

/** The user that Postgres, which refuses to run as root, runs as; null: the user of this process. */
export function postgresOwner(dir: string): Owner | null {
  if (!isRoot()) return null
  // Data that a user made before `sudo npm start` stay with that user.
  const data = statSync(join(dir, 'data'), { throwIfNoEntry: false })
  if (data && data.uid !== 0) return { uid: data.uid, gid: data.gid }
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

/** The directory of the Postgres programs: `original`, or for root a copy in the fixed place. */
export function postgresBinaries(original: string, version: string): string {
  if (!isRoot()) return original
  const copy = join(ROOT_DIR, `postgres-${version}-${process.platform}-${process.arch}`)
  if (existsSync(copy)) return copy
  makeRootDir()
  const partial = mkdtempSync(`${copy}.`)
  cpSync(original, partial, { recursive: true, verbatimSymlinks: true })
  execFileSync('chmod', ['-R', 'a+rX', partial])
  try {
    renameSync(partial, copy)
  } catch (error) {
    rmSync(partial, { recursive: true, force: true })
    // Another process copied the same version meanwhile.
    if (!existsSync(copy)) throw error
  }
  return copy
}

function makeRootDir() {
  mkdirSync(ROOT_DIR, { recursive: true })
  chmodSync(ROOT_DIR, 0o755)
}

/** In the directory of the data: the path of the link that leads there. */
const NOTE = 'belongs-to'

/**
 * The directory of a DATA_DIR's Postgres: `dir`, or for root a directory in the fixed place with a symbolic link at `dir`.
 * A directory that exists at `dir` is used as it is.
 * @throws StartError if `dir` is the link of a copied DATA_DIR, whose original uses the data
 */
export function postgresHome(dir: string, log: (line: string) => void): string {
  if (lstatSync(dir, { throwIfNoEntry: false })?.isSymbolicLink()) {
    if (existsSync(dir)) {
      const home = realpathSync(dir)
      if (existsSync(join(home, NOTE))) claim(home, dir)
      return home
    }
    log(`${dir} leads to ${readlinkSync(dir)}, which is gone; starting with an empty database`)
    rmSync(dir)
  }
  if (!isRoot() || existsSync(dir)) return dir
  makeRootDir()
  const home = mkdtempSync(join(ROOT_DIR, 'data-'))
  writeAtomic(join(home, NOTE), dir)
  symlinkSync(home, dir)
  log(`the data of Postgres is in ${home}; if you delete ${dirname(dir)}, delete it too`)
  return home
}

/** A DATA_DIR that was moved takes its data along. A copy must not use the data of the original. */
function claim(home: string, dir: string) {
  const note = join(home, NOTE)
  const holder = readFileSync(note, 'utf8')
  if (holder !== dir && leadsTo(holder, home) && !isSameEntry(holder, dir)) {
    const [own, other] = [dirname(dir), dirname(holder)]
    throw new StartError(
      `${own} is a copy of ${other}, and both would use the data in ${home}: set DATA_DIR to an empty directory, or delete ${other} if the copy is to replace it`,
    )
  }
  writeAtomic(note, dir)
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
