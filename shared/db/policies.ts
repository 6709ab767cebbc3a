import type { Policy, PolicyRules } from '#shared/moderation/policy.ts'
import type { Db } from './pool.ts'

export type PolicyRow = Policy & { updated_at: Date }

const COLUMNS = 'name, version, rules, updated_at'

const putStatement = {
  name: 'policies_put',
  text: `INSERT INTO policies AS p (name, rules) VALUES ($1, $2)
    ON CONFLICT (name) DO UPDATE SET rules = excluded.rules, updated_at = now(),
      version = p.version + (p.rules::jsonb <> excluded.rules::jsonb)::int
    RETURNING ${COLUMNS}`,
}

/** Its version counts its changes: the same rules again are none. */
export const putPolicy = async (db: Db, name: string, rules: PolicyRules): Promise<PolicyRow> =>
  (await db.query<PolicyRow>(putStatement, [name, JSON.stringify(rules)]))[0]!

export const readPolicy = async (db: Db, name: string): Promise<PolicyRow | null> =>
  (
    await db.query<PolicyRow>({ name: 'policies_read', text: `SELECT ${COLUMNS} FROM policies WHERE name = $1` }, [
      name,
    ])
  )[0] ?? null

export const listPolicies = (db: Db): Promise<PolicyRow[]> =>
  db.query<PolicyRow>({ name: 'policies_list', text: `SELECT ${COLUMNS} FROM policies ORDER BY name LIMIT 1000` })

/** @returns what it was; null: there was none */
export const deletePolicy = async (db: Db, name: string): Promise<PolicyRow | null> =>
  (
    await db.query<PolicyRow>(
      { name: 'policies_delete', text: `DELETE FROM policies WHERE name = $1 RETURNING ${COLUMNS}` },
      [name],
    )
  )[0] ?? null

/** Reads a policy once, for what is read in one go. */
export function policyReader(db: Db): (name: string) => Promise<Policy | null> {
  const known = new Map<string, Promise<Policy | null>>()
  return name => {
    const reading = known.get(name) ?? readPolicy(db, name).then(row => row && policyOf(row))
    known.set(name, reading)
    // Whoever asks next tries anew.
    reading.catch(() => known.delete(name))
    return reading
  }
}

export const policyOf = ({ name, version, rules }: PolicyRow): Policy => ({ name, version, rules })
