// Plain JavaScript because bootstrap.mjs, which runs on Node 20, needs it too.
import { accessSync, constants } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Where the tests unpack Debian's package. Installing it would start a service. */
export const PROMETHEUS_DIR = join(dirname(fileURLToPath(import.meta.url)), '../../node_modules/.cache/prometheus')

/** The directory with both `prometheus` and `promtool`; null if there is none. */
export function findPrometheus(path = process.env.PATH ?? '') {
  const isThere = command => {
    try {
      accessSync(command, constants.X_OK)
      return true
    } catch {
      return false
    }
  }
  const dirs = [...path.split(delimiter).filter(Boolean), join(PROMETHEUS_DIR, 'usr/bin')]
  return dirs.find(dir => isThere(join(dir, 'prometheus')) && isThere(join(dir, 'promtool'))) ?? null
}
