import type { Db } from './pool.ts'

/** The shape of `Rules` is declared in shared/moderation/policy.ts. */
export type PolicyRow<Rules> = { name: string; version: number; rules: Rules; updated_at: Date }

const COLUMNS = 'name, version, rules, updated_at'

const putStatement = {
  name: 'policies_put',
  text: `INSERT INTO policies AS p (name, rules) VALUES ($1, $2)
    ON CONFLICT (name) DO UPDATE SET rules = excluded.rules, updated_at = now(),
      version = p.version + (p.rules::jsonb <> excluded.rules::jsonb)::int
    RETURNING ${COLUMNS}`,
}

/** Creates or replaces a policy. The version grows only if the rules change. */
export const putPolicy = async <Rules>(db: Db, name: string, rules: Rules): Promise<PolicyRow<Rules>> =>
  (await db.query<PolicyRow<Rules>>(putStatement, [name, JSON.stringify(rules)]))[0]!

export const readPolicy = async <Rules>(db: Db, name: string): Promise<PolicyRow<Rules> | null> =>
  (
    await db.query<PolicyRow<Rules>>(
      { name: 'policies_read', text: `SELECT ${COLUMNS} FROM policies WHERE name = $1` },
      [name],
    )
  )[0] ?? null

export const listPolicies = <Rules>(db: Db): Promise<PolicyRow<Rules>[]> =>
  db.query<PolicyRow<Rules>>({
    name: 'policies_list',
    text: `SELECT ${COLUMNS} FROM policies ORDER BY name LIMIT 1000`,
  })

/** @returns the deleted policy; null: no such policy */
export const deletePolicy = async <Rules>(db: Db, name: string): Promise<PolicyRow<Rules> | null> =>
  (
    await db.query<PolicyRow<Rules>>(
      { name: 'policies_delete', text: `DELETE FROM policies WHERE name = $1 RETURNING ${COLUMNS}` },
      [name],
    )
  )[0] ?? null
