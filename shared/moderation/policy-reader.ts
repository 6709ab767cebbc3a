import { readPolicy } from '#shared/db/policies.ts'
import type { Db } from '#shared/db/pool.ts'
import type { Policy, PolicyRules } from './policy.ts'

/** Reads each policy once: for one submission, or one reading of a batch. @returns null: no such policy */
export function createPolicyReader(db: Db): (name: string) => Promise<Policy | null> {
  const known = new Map<string, Promise<Policy | null>>()
  return name => {
    const reading = known.get(name) ?? read(db, name)
    known.set(name, reading)
    // The next caller retries.
    reading.catch(() => known.delete(name))
    return reading
  }
}

async function read(db: Db, name: string): Promise<Policy | null> {
  const row = await readPolicy<PolicyRules>(db, name)
  return row && { name: row.name, version: row.version, rules: row.rules }
}
