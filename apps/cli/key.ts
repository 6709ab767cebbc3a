import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Failure } from './failure.ts'

/** Where `npm start` keeps its admin key. */
const ADMIN_KEY_FILE = join('.data', 'admin.key')
const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])$/

/** The admin key of the local server is never sent to another one. @throws Failure */
export function findKey(given: string | undefined, url: string, cwd: string): string {
  const key = (given ?? (LOOPBACK.test(new URL(url).hostname) ? localKey(cwd) : '')).trim()
  if (key === '') throw new Failure('no API key: set --key or SLUICE_API_KEY')
  // `fetch` would report an invalid header instead.
  if (!/^[\x21-\x7e]+$/.test(key)) throw new Failure('the API key contains an invalid character')
  return key
}

function localKey(cwd: string): string {
  try {
    return readFileSync(join(cwd, ADMIN_KEY_FILE), 'utf8')
  } catch {
    return ''
  }
}
