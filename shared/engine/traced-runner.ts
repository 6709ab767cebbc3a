import { AsyncLocalStorage } from 'node:async_hooks'
import type { ProviderConfig } from '#shared/config.ts'
import type { ClaimedChunk } from '#shared/db/batches/claim-chunk.ts'
import { type RunnableTask, toRunnable } from '#shared/db/tasks/load.ts'
import type { RunDeps } from '#shared/engine/run.ts'
import { createRunner, type Runner } from '#shared/engine/runner.ts'
import { toWire } from '#shared/ids.ts'
import { type Attributes, inSpan, type Span, type Tracing } from '#shared/tracing/tracing.ts'
import { answerAttributes, callAttributes, operationName } from './gen-ai.ts'

/** One line in so many of a chunk has spans, beginning with the first: a batch may have 50,000 lines. */
const LINES_PER_SPAN = 20

/** The chunk or task that runs. The span of a task begins when its row has been read. */
type Running = { chunk: Span | null; lines: number; task: Span | null }
const running = new AsyncLocalStorage<Running>()

/** A runner whose stages are spans. The engine itself knows nothing about tracing. */
export function createTracedRunner(
  tracing: Tracing,
  deps: RunDeps,
  providers: () => readonly Pick<ProviderConfig, 'name' | 'baseUrl'>[],
): Runner {
  const runner = createRunner(withSpans(tracing, deps, name => providers().find(one => one.name === name)?.baseUrl))
  return {
    run(job, slow) {
      const around = running.getStore()
      if (around && around.lines++ % LINES_PER_SPAN !== 0) return running.exit(() => runner.run(job, slow))
      const own: Running = { chunk: around?.chunk ?? null, lines: 0, task: null }
      return running.run(own, () => runner.run(job, slow).finally(() => own.task?.end()))
    },
    runNew(task, live) {
      const own: Running = { chunk: null, lines: 0, task: beginTask(tracing, null, toRunnable(task)) }
      return running.run(own, () => runner.runNew(task, live).finally(() => own.task?.end()))
    },
  }
}

/** Runs a step of a batch as a span of the trace in which the batch was submitted. */
export function traceChunk<T>(tracing: Tracing | null, chunk: ClaimedChunk, work: () => Promise<T>): Promise<T> {
  if (!tracing) return work()
  const span = tracing.start(`batch ${chunk.step}`, {
    kind: 'consumer',
    parent: chunk.traceparent,
    attributes: {
      ...consumed('batch'),
      'sluice.batch.id': toWire('batch', chunk.batch_id),
      'sluice.chunk.id': chunk.id,
    },
  })
  return running.run({ chunk: span, lines: 0, task: null }, () => inSpan(span, work))
}

const consumed = (queue: string): Attributes => ({
  'messaging.system': 'bullmq',
  'messaging.operation.type': 'process',
  'messaging.destination.name': queue,
})

function beginTask(tracing: Tracing, chunk: Span | null, task: RunnableTask): Span {
  return tracing.start(`process ${task.kind}`, {
    kind: 'consumer',
    parent: chunk ?? task.traceparent,
    attributes: {
      ...consumed(task.queue),
      'sluice.task.id': toWire('task', task.id),
      'sluice.task.kind': task.kind,
      'sluice.task.epoch': task.epoch,
      ...(task.batch_id && { 'sluice.batch.id': toWire('batch', task.batch_id) }),
    },
  })
}

function withSpans(tracing: Tracing, deps: RunDeps, baseUrlOf: (provider: string) => string | undefined): RunDeps {
  const { admission, claims, settle } = deps
  const current = () => running.getStore()?.task ?? null
  /** @param describe attributes of the outcome */
  async function stage<T>(
    name: string,
    work: () => Promise<T>,
    describe: (outcome: T) => Attributes = () => ({}),
  ): Promise<T> {
    const parent = current()
    if (!parent) return work()
    return inSpan(tracing.start(name, { parent }), async span => {
      const outcome = await work()
      span.set(describe(outcome))
      return outcome
    })
  }

  function begin(task: RunnableTask): Span | null {
    const own = running.getStore()
    if (!own) return null
    if (!own.chunk && task.traceparent)
      tracing.start('queue', { parent: task.traceparent, agoMs: task.waited_ms }).end()
    own.task = beginTask(tracing, own.chunk, task)
    return own.task
  }

  return {
    ...deps,
    async load(job) {
      const task = await deps.load(job)
      const span = task && begin(task)
      // Log lines of the task name this span.
      return span ? { ...task, traceparent: span.traceparent } : task
    },
    admission: {
      admit: request =>
        stage(
          'gate',
          () => admission.admit(request),
          outcome => ({
            'gen_ai.provider.name': request.target.provider,
            'sluice.gate.decision': outcome.kind,
            'sluice.gate.wait_ms': 'ms' in outcome ? Math.round(outcome.ms) : undefined,
          }),
        ),
    },
    claims: {
      claim: (request, controller) => stage('claim', () => claims.claim(request, controller), claimAttributes),
      claimNew: (request, task, controller) =>
        stage('claim', () => claims.claimNew(request, task, controller), claimAttributes),
      next: request => stage('claim', () => claims.next(request), claimAttributes),
    },
    async call(input) {
      const parent = current()
      if (!parent) return deps.call(input)
      const attributes = callAttributes(input, baseUrlOf(input.target.provider), tracing.content)
      const span = tracing.start(`${operationName(input.prompt)} ${input.target.model}`, {
        kind: 'client',
        parent,
        attributes,
      })
      return inSpan(span, async () => {
        const called = await deps.call({ ...input, traceparent: span.traceparent })
        if (span.recording) span.set(answerAttributes(called, tracing.content))
        if (called.kind === 'failure') span.fail(called.failure.kind)
        return called
      })
    },
    check: (...args) =>
      stage(
        'check',
        () => deps.check(...args),
        verdict => ({ 'sluice.check.ok': verdict.ok }),
      ),
    settle: {
      priceAttempt: settle.priceAttempt,
      finish(ending) {
        const task = current()
        task?.set({ 'sluice.task.status': ending.status, 'sluice.task.source': ending.source })
        if (ending.error) task?.fail(ending.error.code)
        return stage('settle', () => settle.finish(ending))
      },
      requeue(task, request) {
        current()?.set({ 'sluice.task.status': 'queued', 'sluice.task.delay_ms': Math.round(request.delayMs) })
        return stage('settle', () => settle.requeue(task, request))
      },
    },
  }
}

const claimAttributes = (outcome: { kind: string }): Attributes => ({ 'sluice.claim.outcome': outcome.kind })
