import { expect, it } from 'vitest'
import type { Task, TaskStatus } from '../client/index.ts'
import { type Outcome, outcomeOf, type Verdict } from './moderation.ts'

type Decision = Verdict['decision']

const taskOf = (status: TaskStatus, decision: Decision | null, person: 'allow' | 'block' | null) =>
  ({
    task_id: 'task_1',
    status,
    result: decision && { decision, confidence: 1, violations: [], reason: 'Read it.', scores: {} },
    review: person && { decision: person, decided_at: '2026-01-01T00:00:00.000Z' },
  }) as unknown as Task<Verdict | null>

it('a comment is visible only if a task that succeeded allows it, or a reviewer', () => {
  const statuses: TaskStatus[] = ['queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired']
  const shown = statuses.flatMap(status =>
    ([null, 'allow', 'block', 'review'] as const).flatMap(decision =>
      ([null, 'allow', 'block'] as const)
        .filter(person => outcomeOf(taskOf(status, decision, person)).status === 'visible')
        .map(person => [status, decision, person].join(' ')),
    ),
  )
  const byPerson = ['succeeded', 'failed', 'cancelled', 'expired'].flatMap(status =>
    ['', 'allow', 'block', 'review'].map(decision => `${status} ${decision} allow`),
  )
  expect(shown.toSorted()).toEqual(['succeeded allow ', ...byPerson].toSorted())
})

it.each<[TaskStatus, Decision | null, 'allow' | 'block' | null, Outcome['status']]>([
  ['succeeded', 'block', null, 'blocked'],
  ['succeeded', 'review', null, 'held'],
  ['failed', 'review', null, 'held'],
  ['failed', 'review', 'block', 'blocked'],
  ['succeeded', null, null, 'held'],
])('a task that %s with the verdict %s and the review %s makes a comment %s', (status, decision, person, expected) => {
  expect(outcomeOf(taskOf(status, decision, person))).toMatchObject({ status: expected, taskId: 'task_1' })
})

it('an accepted task holds its comment', () => {
  const urls = { self: '', events: '', cancel: '' }
  const task = { task_id: 'task_1', kind: 'moderate', status: 'queued', created_at: '', urls } as const
  expect(outcomeOf(task)).toEqual({ status: 'held', taskId: 'task_1', verdict: null })
})
