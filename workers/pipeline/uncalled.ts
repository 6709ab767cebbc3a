import { persist } from '#shared/db/persist.ts'
import type { Quality, RunnableTask, Source } from '#shared/db/tasks.ts'
import type { JobKind } from '#shared/jobs/define.ts'
import type { KeptOptions } from '#shared/jobs/options.ts'
import { suits } from '#shared/jobs/suits.ts'
import type { Recall } from './recall.ts'

/** An answer that costs no call: how its task ends. */
export type Uncalled = {
  status: 'succeeded'
  source: Source
  quality: Quality
  result: unknown
  provider?: string
  model?: string
}

export type UncalledDeps = {
  recall: Recall
  /** What the operator wrote down for this input. */
  precomputed(kind: string, input: unknown): Promise<{ result: unknown } | null>
}

/** @returns what makes a call needless; `follows`: another task is to get the answer; null: there has to be a call */
export async function beforeCalls(
  { recall }: Pick<UncalledDeps, 'recall'>,
  task: RunnableTask,
  kind: JobKind,
): Promise<Uncalled | 'follows' | null> {
  const sure = kind.settled(task.input)
  if (sure !== null) return { status: 'succeeded', source: 'rules', quality: 'high', result: sure }
  // An experiment may put the kind's rules first.
  const ruled = (task.options as KeptOptions).engine === 'rules' ? kind.rules(task.input) : null
  if (ruled !== null) return { status: 'succeeded', source: 'rules', quality: 'low', result: ruled }
  const recalled = await recall.look(task)
  if (recalled.kind === 'follows') return 'follows'
  if (recalled.kind === 'lead') return null
  const { result, provider, model } = recalled.entry
  return { status: 'succeeded', source: 'cache', quality: 'high', result, provider, model }
}

/** Makes do without a model, as far as the task lets it: what is remembered, what was written down, the kind's rules. */
export async function insteadOfCalls(
  { recall, precomputed }: UncalledDeps,
  task: RunnableTask,
  kind: JobKind,
): Promise<Uncalled | null> {
  const options = task.options as KeptOptions
  const level = options.fallback ?? kind.fallback
  // No verdict is none, wherever else one could come from.
  if (level === 'none' || kind.noVerdict !== null) return null
  const remembered = options.cache === 'off' ? null : await recall.stale(task)
  if (remembered) {
    const { result, provider, model } = remembered.entry
    const quality = remembered.fresh ? 'high' : 'medium'
    return { status: 'succeeded', source: 'cache', quality, result, provider, model }
  }
  const written = await persist(() => precomputed(task.kind, task.input))
  // What holds for a kind need not suit this input.
  if (written && (await suits(kind, task.input, written.result)))
    return { status: 'succeeded', source: 'precomputed', quality: 'medium', result: written.result }
  const result = level === 'rules' ? kind.rules(task.input) : null
  return result === null ? null : { status: 'succeeded', source: 'rules', quality: 'low', result }
}
