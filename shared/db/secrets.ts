import { randomBytes } from 'node:crypto'
import type { Db } from './pool.ts'

/** 32 random bytes shared by all processes of the installation under a name. Created by the first call. */
export async function sharedSecret(db: Db, name: string): Promise<Buffer> {
  await db.query(
    {
      name: 'secrets_make',
      text: 'INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING',
    },
    [name, randomBytes(32)],
  )
  const [found] = await db.query<{ value: Buffer }>(
    { name: 'secrets_read', text: 'SELECT value FROM secrets WHERE name = $1' },
    [name],
  )
  return found!.value
}
