import type { Disconnect } from './disconnect.ts'

/** The clients of the tasks that this process runs, so that a repeated request can keep a call alive whose first client has left. */
export type LiveClients = {
  enter(taskId: string, client: Disconnect): () => void
  /** @returns a function that ends the joint wait */
  join(taskId: string): () => void
}

export function createLiveClients(): LiveClients {
  const clients = new Map<string, Disconnect>()
  return {
    enter(taskId, client) {
      clients.set(taskId, client)
      return () => void clients.delete(taskId)
    },
    join: taskId => clients.get(taskId)?.join() ?? (() => undefined),
  }
}
