import OpenAI from 'openai'
import { toWire } from '#shared/ids.ts'
import { ADMIN_KEY, type Api, type Cluster, until } from './cluster.ts'

/** Requests whose client waits, with the official SDK. */

export const clientOf = (api: Api, options: ConstructorParameters<typeof OpenAI>[0] = {}) =>
  new OpenAI({ baseURL: `http://127.0.0.1:${api.port}/v1`, apiKey: ADMIN_KEY, maxRetries: 0, ...options })

export const ask = (marker: string) => ({
  model: 'claude-haiku-5-5',
  messages: [{ role: 'user' as const, content: `[[${marker}]]` }],
})

/** The task whose prompt has the marker, once it has ended. */
export const endedTask = (cluster: Pick<Cluster, 'sql'>, marker: string) =>
  until(`the task ${marker} has ended`, async () => {
    const ended = `SELECT id, status FROM tasks WHERE input::text LIKE $1 AND status NOT IN ('queued', 'running')`
    const [task] = await cluster.sql<{ id: string; status: string }>(ended, [`%[[${marker}]]%`]).catch(() => [])
    return task && { ...task, id: toWire('task', task.id) }
  })
