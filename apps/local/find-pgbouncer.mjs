// Plain JavaScript because bootstrap.mjs, which runs on Node 20, needs it too.
import { accessSync, constants } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Where the tests unpack Debian's packages. Installing them would start a service. */
export const PGBOUNCER_DIR = join(dirname(fileURLToPath(import.meta.url)), '../../node_modules/.cache/pgbouncer')

/** @returns the program, and the folders of its libraries if it was unpacked; null if there is none */
export function findPgBouncer(path = process.env.PATH ?? '') {
  // Debian's /usr/sbin is not on every PATH.
  for (const dir of [...path.split(delimiter).filter(Boolean), '/usr/sbin', join(PGBOUNCER_DIR, 'usr/sbin')]) {
    const command = join(dir, 'pgbouncer')
    try {
      accessSync(command, constants.X_OK)
      const own = dir.startsWith(PGBOUNCER_DIR)
      const multiarch = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu'
      return {
        command,
        libraries: own ? ['usr/lib', 'lib'].map(lib => join(PGBOUNCER_DIR, lib, multiarch)).join(':') : '',
      }
    } catch {
      // Not in this directory.
    }
  }
  return null
}
