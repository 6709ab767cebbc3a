import type { FastifyRequest } from 'fastify'
import type { TaskView } from '#shared/db/tasks/read.ts'
import { readStoredTask, type StoredTask } from '#shared/db/tasks/stored.ts'
import type { Wire } from '#shared/requests/request.ts'
import { isStoredRequest, type StoredRequest } from '#shared/requests/stored.ts'
import type { AnswerContext } from '#shared/requests/wire.ts'
import type { ApiDeps } from '../deps.ts'
import { mayAccess } from '../http/auth.ts'

/** A stored request of a compatible surface: its task, its body and its present state. */
export type OwnStored = { task: StoredTask; request: StoredRequest; view: TaskView; context: AnswerContext }

export type StoredDeps = Pick<ApiDeps, 'db' | 'view' | 'responseMemory'>

/** @returns null: no such task of this wire format is stored, or the key may not see it */
export async function ownStored(
  deps: StoredDeps,
  { apiKey }: Pick<FastifyRequest, 'apiKey'>,
  id: string | null,
  wire: Wire,
): Promise<OwnStored | null> {
  const task = id && (await deps.responseMemory.read(() => readStoredTask(deps.db, id)))
  if (!task || !mayAccess(apiKey, task.api_key_id)) return null
  return await withView(deps, task, wire)
}

/** Adds the present state of a stored task. @returns null: it is of another wire format */
export async function withView(deps: StoredDeps, task: StoredTask, wire: Wire): Promise<OwnStored | null> {
  const request = task.input
  if (!isStoredRequest(request) || request.wire !== wire) return null
  const view = await deps.view(task.id)
  return view && { task, request, view, context: contextOf(task, request) }
}

const contextOf = (task: StoredTask, { body }: StoredRequest): AnswerContext => ({
  id: task.id.replaceAll('-', ''),
  created: Math.floor(task.created_at.getTime() / 1000),
  body,
})
