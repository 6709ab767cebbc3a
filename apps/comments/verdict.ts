import { type AcceptedTask, hasEnded, type Task } from '../client/index.ts'

/** Only what is `visible` is ever shown. */
export const STATUSES = ['visible', 'held', 'blocked'] as const
export type Status = (typeof STATUSES)[number]

/** The result of a task of kind `moderate`, as far as it matters here. */
export type Verdict = {
  decision: 'allow' | 'block' | 'review'
  confidence: number
  violations: string[]
  reason: string
}

/** `taskId` null: Sluice has no task of it, and is to be asked. */
export type Outcome = { status: Status; taskId: string | null; verdict: Verdict | null }

export type Moderated = AcceptedTask | Task<Verdict | null>

/** Visible is what a model and its policy allow in a task that succeeded, or what a person allows; in doubt it is held. */
export function outcomeOf(task: Moderated): Outcome {
  const taskId = task.task_id
  if (!('result' in task) || !hasEnded(task.status)) return { status: 'held', taskId, verdict: null }
  const verdict = task.result && pick(task.result)
  const decision = task.review?.decision ?? verdict?.decision
  const mayShow = decision === 'allow' && (task.review !== null || task.status === 'succeeded')
  return { status: decision === 'block' ? 'blocked' : mayShow ? 'visible' : 'held', taskId, verdict }
}

const pick = ({ decision, confidence, violations, reason }: Verdict): Verdict => ({
  decision,
  confidence,
  violations,
  reason,
})
