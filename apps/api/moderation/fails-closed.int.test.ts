import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { moderate } from '#shared/jobs/moderate.ts'
import { CATEGORIES } from '#shared/moderation/categories.ts'
import { createNative } from '#shared/testing/native-batches.ts'
import { startStack } from '#shared/testing/stack.ts'
import type { Script } from '#shared/testing/upstream.ts'

/**
 * Under any combination and order of provider, budget and client faults, a text is allowed only by a complete, valid verdict that a
 * provider returned for this text.
 */

const stack = startStack(upstream => ({
  PROVIDERS: 'anthropic,openai',
  OPENAI_API_KEY: 'key',
  OPENAI_BASE_URL: `${upstream.url}/v1`,
  CALL_TIMEOUT_SECONDS: '2',
  BACKOFF_BASE_MS: '10',
  BACKOFF_MAX_MS: '50',
}))
const { send, ended, resultsOf } = createNative(stack, () => 'the-admin-key-of-this-test')

const verdict = (scores: Record<string, number> = {}, more: object = {}) => ({
  scores: Object.fromEntries(CATEGORIES.map(name => [name, scores[name] ?? 0])),
  confidence: 0.95,
  reason: 'Read it.',
  ...more,
})
const answer = (...verdicts: object[]) => JSON.stringify({ verdicts })
const WHOLE = answer(verdict())

/** The behaviours of a provider in one call. Only `allows` may lead to `allow`. */
type Behaviour = { allows: boolean; script: Script }
const allows: fc.Arbitrary<Behaviour> = fc.constantFrom(
  { allows: true, script: { text: WHOLE } },
  { allows: true, script: { text: `Sure! ${WHOLE}` } },
)
const saidWrongly: fc.Arbitrary<Script> = fc.oneof(
  fc.record({
    text: fc.constantFrom(
      'I think that is fine.',
      'safe',
      'allow',
      '',
      'null',
      '[]',
      '{"safe": true}',
      '{"safe": true, "decision": "allow"}',
      '{"verdicts": []}',
      answer(verdict(), verdict()),
      // Not bare JSON: Anthropic's structured outputs would drop the field, which leaves a valid verdict.
      `Sure! ${answer({ ...verdict(), safe: true })}`,
      answer({ ...verdict(), scores: {} }),
      answer(verdict({}, { confidence: '1' })),
      answer(verdict({ hate: -1 })),
      `${WHOLE}\n${WHOLE}`,
    ),
  }),
  fc.record({ text: fc.constant(WHOLE), stop: fc.constant('refusal' as const) }),
  fc
    .integer({ min: 1, max: WHOLE.length - 1 })
    .chain(end =>
      fc.record({ text: fc.constant(WHOLE.slice(0, end)), stop: fc.constantFrom('end', 'max_tokens' as const) }),
    ) as fc.Arbitrary<Script>,
)
const judgedOtherwise: fc.Arbitrary<Script> = fc.record({
  text: fc.constantFrom(
    answer(verdict({ hate: 0.9 })),
    answer(verdict({ spam: 0.6 })),
    answer(verdict({}, { confidence: 0 })),
  ),
})
const failing: fc.Arbitrary<Script> = fc.oneof(
  fc.record({ text: fc.constant(WHOLE), status: fc.constantFrom(400, 401, 403, 404, 413, 429, 500, 503, 529) }),
  fc.record({
    text: fc.constant(WHOLE),
    fault: fc.constantFrom(
      'hang',
      'hang',
      'hang_midway',
      'dribble',
      'cut',
      'cut_midway',
      'truncated',
      'garbage',
      'html',
      'wrong_shape',
      'empty',
      'error_event',
    ),
  }),
) as fc.Arbitrary<Script>
const never = (script: fc.Arbitrary<Script>) => script.map(script => ({ allows: false, script }))

const behaviour = fc.oneof(
  { weight: 1, arbitrary: allows },
  { weight: 4, arbitrary: never(saidWrongly) },
  { weight: 1, arbitrary: never(judgedOtherwise) },
  { weight: 3, arbitrary: never(failing) },
)
const behaviours = fc.array(behaviour, { minLength: 1, maxLength: 5 })

const one = fc.record({
  behaviours,
  route: fc.constantFrom('task', 'task', 'texts', 'openai' as const),
  stream: fc.boolean(),
  deadline: fc.constantFrom(1, 2, 3),
  cancelled: fc.option(fc.constantFrom('at once', 'when asked' as const)),
})
type One = typeof one extends fc.Arbitrary<infer T> ? T : never

let texts = 0
let models: string[]
let runs = 0
beforeAll(async () => {
  const { body } = await stack.call('GET', '/api/v1/models?provider=openai')
  models = body.data
    .filter((one: { context_window: number }) => one.context_window >= 100_000)
    .map((one: { model: string }) => one.model)
})

/** A unique text with the behaviour of each call for it. */
function prepare(behaviours: Behaviour[]): { text: string; mayAllow: () => boolean } {
  // All have the same length, so that none contains another.
  const text = `What a lovely photograph, number ${String(++texts).padStart(6, '0')}`
  // All further calls answer with prose.
  stack.upstream.rule(text, { text: 'I think that is fine.' })
  stack.upstream.script(...behaviours.map(({ script }) => ({ ...script, when: text })))
  const first = behaviours.findIndex(one => one.allows)
  return { text, mayAllow: () => first >= 0 && stack.upstream.count(new RegExp(text)) > first }
}

/** Checks that the task is not allowed, unless its calls permit it. */
async function judge(
  { behaviours, route, stream, deadline, cancelled }: One,
  model: string | undefined,
): Promise<void> {
  const { text, mayAllow } = prepare(behaviours)
  if (route === 'openai') {
    const { status, body } = await stack.call('POST', '/v1/moderations', {
      body: { input: text, ...(model && { model }) },
    })
    if (status === 200) expect(body.results[0].flagged || mayAllow(), text).toBe(true)
    else expect(status).toBe(503)
    return
  }
  const { status, body } = await stack.call('POST', '/api/v1/tasks/moderate', {
    body: {
      input: route === 'texts' ? { texts: [text] } : { text },
      options: { ...(model && { model }), stream, deadline_seconds: deadline, fallback: 'rules' },
    },
  })
  expect(status).toBe(202)
  const end = stack.call('GET', `${body.urls.self}?wait=30`)
  if (cancelled === 'when asked') await Promise.race([stack.upstream.arrived(1, new RegExp(text)), end])
  if (cancelled) await stack.call('POST', body.urls.cancel)
  const { body: task } = await end
  expect(['succeeded', 'failed', 'expired', 'cancelled']).toContain(task.status)
  expectClosed(task, mayAllow())
}

function expectClosed(
  task: { status: string; source?: string | null; result: typeof moderate.exampleResult },
  may: boolean,
) {
  const { decision, safe } = task.result as { decision: string; safe: boolean }
  expect(safe).toBe(decision === 'allow')
  if (task.status !== 'succeeded') expect(task.result).toEqual(moderate.resultWithoutVerdict)
  else if (decision === 'allow') expect(may).toBe(true)
}

describe('moderation', () => {
  it('allows nothing without a verdict under any concurrent failures', { timeout: 180_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(one, { minLength: 4, maxLength: 12 }),
        fc.constantFrom('enough', 'enough', 'scarce', 'none' as const),
        async (all, money) => {
          // A model of this run has a closed breaker. The breaker of the default model may be open.
          const model = runs++ % 3 === 0 ? undefined : `openai/${models[runs % models.length]}`
          const limits = { enough: 1000, scarce: 0.05, none: 0 }
          const { body: budget } = await stack.call('PUT', '/api/v1/budgets', {
            body: { scope: 'kind:moderate', window: 'total', limit_usd: limits[money] },
          })
          await Promise.all(all.map(one => judge(one, model)))
          await stack.call('DELETE', `/api/v1/budgets/${budget.id}`)
        },
      ),
      { numRuns: 25, endOnFailure: true },
    )
  })

  it('allows no line of a batch without a verdict', { timeout: 120_000 }, async () => {
    const said = fc.oneof(allows, never(saidWrongly), never(judgedOtherwise))
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(said, { minLength: 1, maxLength: 3 }), { minLength: 20, maxLength: 40 }),
        async all => {
          const lines = all.map(prepare)
          const { status, body } = await send(
            { kind: 'moderate' },
            lines.map(({ text }, n) => ({ custom_id: String(n), input: { text } })),
          )
          expect(status).toBe(202)
          await ended(body)
          const results = await resultsOf(body)
          expect(results).toHaveLength(lines.length)
          for (const result of results) expectClosed(result, lines[Number(result.custom_id)]!.mayAllow())
        },
      ),
      { numRuns: 3, endOnFailure: true },
    )
  })

  it('stored a verdict of every task, and allow only for tasks that a model answered', async () => {
    const [row] = await stack.sql(`SELECT count(*)::int AS ended,
        count(*) FILTER (WHERE result IS NULL)::int AS without,
        count(*) FILTER (WHERE result->>'decision' = 'allow' AND (status <> 'succeeded' OR source <> 'ai'))::int AS wrongly,
        count(*) FILTER (WHERE result->>'decision' = 'allow')::int AS allowed
      FROM tasks WHERE kind = 'moderate' AND status NOT IN ('queued', 'running')`)
    expect(row).toMatchObject({ without: 0, wrongly: 0 })
    expect(row!.ended).toBeGreaterThan(50)
    // Otherwise the tests above would prove nothing.
    expect(row!.allowed).toBeGreaterThan(0)
  })
})
