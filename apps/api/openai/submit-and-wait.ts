import type { FastifyRequest } from 'fastify'
import type { JobKind } from '#shared/jobs/define.ts'
import type { ApiDeps } from '../deps.ts'
import { type Submitted, submitTask } from '../tasks/submit-task.ts'

/** Submits a task for a client that waits for its result and cannot poll. @param model undefined: the default model */
export const submitAndWait = (
  deps: ApiDeps,
  request: FastifyRequest,
  job: JobKind,
  task: { input: unknown; model: string | undefined; deadlineSeconds: number },
): Promise<Submitted> =>
  submitTask(deps, request, {
    job,
    input: task.input,
    options: {
      ...(task.model !== undefined && { model: task.model }),
      priority: 'interactive',
      deadline_seconds: task.deadlineSeconds,
      stream: false,
      cache: 'use',
      on_budget: 'fail',
      fallback: 'none',
    },
    metadata: null,
    // The task ends by its deadline before the wait does.
    wait: task.deadlineSeconds + 5,
    requireResult: true,
    idempotency: null,
  })
