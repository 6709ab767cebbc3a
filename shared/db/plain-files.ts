import type { FileStore } from '#shared/batches/ports.ts'
import { newId } from '#shared/ids.ts'
import type { Db } from './pool.ts'

/** STAND-IN for the store of files. */
export function createPlainFiles(db: Db): FileStore {
  const remove = async (id: string) => {
    await db.query({ name: 'plain_files_chunks', text: 'DELETE FROM file_chunks WHERE file_id = $1' }, [id])
    return (
      (await db.query({ name: 'plain_files_remove', text: 'DELETE FROM files WHERE id = $1 RETURNING id' }, [id]))
        .length > 0
    )
  }
  return {
    async create({ id = newId(), apiKeyId, purpose, filename }) {
      await remove(id)
      await db.query(
        {
          name: 'plain_files_create',
          text: `INSERT INTO files (id, api_key_id, purpose, filename, status, storage) VALUES ($1, $2, $3, $4, 'uploading', 'postgres')`,
        },
        [id, apiKeyId, purpose, filename],
      )
      let seq = 0
      return {
        id,
        write: async bytes =>
          void (await db.query(
            {
              name: 'plain_files_write',
              text: 'INSERT INTO file_chunks (file_id, seq, data) VALUES ($1, $2, $3)',
            },
            [id, seq++, bytes],
          )),
        finish: () =>
          db.query({ name: 'plain_files_finish', text: `UPDATE files SET status = 'processed' WHERE id = $1` }, [id]),
        abort: async () => void (await remove(id)),
      }
    },
    async read(id) {
      const [file] = await db.query<{ id: string; api_key_id: string; bytes: number }>(
        {
          name: 'plain_files_find',
          text: `SELECT id, api_key_id, bytes::float8 AS bytes FROM files WHERE id = $1 AND status = 'processed'`,
        },
        [id],
      )
      if (!file) return null
      async function* bytes() {
        for (let seq = 0; ; seq++) {
          const [row] = await db.query<{ data: Buffer }>(
            { name: 'plain_files_read', text: 'SELECT data FROM file_chunks WHERE file_id = $1 AND seq = $2' },
            [id, seq],
          )
          if (!row) return
          yield row.data
        }
      }
      return { file, bytes: bytes() }
    },
    remove,
  }
}
