import { spawnSync } from 'node:child_process'
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { StartError } from './process.ts'

/**
 * Makes this process the only user of a DATA_DIR until the returned function is called.
 * @throws StartError with the pid of the present user
 */
export function lockDirectory(dir: string): () => void {
  const file = join(dir, 'lock')
  const ours = `${process.pid} ${startedAt(process.pid)}\n`
  const candidate = `${file}.${process.pid}`
  rmSync(candidate, { force: true })
  writeFileSync(candidate, ours, { mode: 0o600 })
  try {
    for (;;) {
      if (linked(candidate, file)) break
      const holder = readHolder(file)
      if (holder === null) continue
      const [pid, started] = holder.trim().split(' ')
      if (started && startedAt(Number(pid)) === started && Number(pid) !== process.pid)
        throw new StartError(`${dir} is in use by another \`npm start\` (pid ${pid}); stop it or set DATA_DIR`)
      breakStale(file, holder)
    }
  } finally {
    rmSync(candidate, { force: true })
  }
  return () => {
    if (readHolder(file) === ours) rmSync(file, { force: true })
  }
}

/** A hard link appears with its complete content or not at all. */
function linked(candidate: string, file: string): boolean {
  try {
    linkSync(candidate, file)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

function readHolder(file: string): string | null {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return null
  }
}

/** By rename, so that only one of two processes removes a stale lock, and a fresh lock is put back. */
function breakStale(file: string, expected: string) {
  const aside = `${file}.stale.${process.pid}`
  try {
    renameSync(file, aside)
  } catch {
    return
  }
  if (readHolder(aside) !== expected) linked(aside, file)
  rmSync(aside, { force: true })
}

/** The start time of a process, as one word. After a reboot, or in a new container, its pid may belong to another process. */
function startedAt(pid: number): string | null {
  try {
    // Field 22 (proc(5)); the command in field 2 may contain spaces.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ')
    return fields?.[0] === 'Z' ? null : (fields?.[19] ?? null)
  } catch {
    if (process.platform === 'linux') return null
    const { stdout } = spawnSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8' })
    return stdout?.trim().replaceAll(/\s+/g, '_') || null
  }
}
