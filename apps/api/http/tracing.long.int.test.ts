import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { type CollectedSpan, type Collector, startCollector } from '#shared/testing/collector.ts'
import { asking, createNative, numbered } from '#shared/testing/native-batches.ts'
import { startReceiver } from '#shared/testing/receiver.ts'
import { type Stack, startStack } from '#shared/testing/stack.ts'

const PARENT = 'b7ad6b7169203331'
const CALL = 'chat claude-haiku-5-5'
let traces = 0
/** The trace context of a test's client. */
const newTrace = (flags = '01') => {
  const id = `${++traces}`.padStart(32, 'a')
  return { id, traceparent: `00-${id}-${PARENT}-${flags}` }
}

const submit = (stack: Stack, prompt: string, traceparent: string, options = {}) =>
  stack.submit({ input: { prompt }, options }, { headers: { traceparent, prefer: 'wait=30' } })

/** The trace context that a provider or webhook receiver gets from a span. */
const traceparentOf = (span: CollectedSpan) => `00-${span.traceId}-${span.spanId}-01`

type Tree = Record<string, Tree>[]
/** Nested span names, in the order of their start. */
function treeOf(spans: CollectedSpan[], parent: string | null): Tree {
  return spans
    .filter(span => span.parentSpanId === parent)
    .toSorted((a, b) => a.startMs - b.startMs || a.name.localeCompare(b.name))
    .map(span => ({ [span.name]: treeOf(spans, span.spanId) }))
}
const leaves = (...names: string[]): Tree => names.map(name => ({ [name]: [] }))

let collector: Collector
beforeAll(async () => {
  collector = await startCollector()
})
afterAll(() => collector.close())

describe('with a collector', () => {
  const stack = startStack(() => ({
    OTEL_EXPORTER_OTLP_ENDPOINT: `${collector.url}/`,
    OTEL_EXPORTER_OTLP_HEADERS: 'Authorization=Basic%20cGs6c2s%3D',
    OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test',
  }))
  beforeEach(() => stack.upstream.reset())
  /** The spans of a trace after its task has ended. */
  const traced = async ({ id }: { id: string }, count: number) => {
    const spans = await collector.until(count, span => span.traceId === id)
    expect(spans).toHaveLength(count)
    return spans
  }
  const named = (spans: CollectedSpan[], name: string) => spans.filter(span => span.name === name)

  test('a task is one trace, from the client’s request to the provider, which gets the traceparent', async () => {
    const trace = newTrace()
    const answer = await submit(stack, 'the planted prompt', trace.traceparent, { temperature: 0.5, max_tokens: 77 })
    const spans = await traced(trace, 9)
    const run = { 'process generate': leaves('gate', 'claim', CALL, 'check', 'settle') }
    const names = (tree: Tree): string => JSON.stringify(tree)
    const [root] = treeOf(spans, PARENT)
    expect(Object.keys(root!)).toEqual(['POST /api/v1/tasks/generate'])
    const [accept] = root!['POST /api/v1/tasks/generate']!
    const children = accept!.accept!.map(child => Object.keys(child)[0]!)
    expect(children.toSorted()).toEqual(['process generate', 'queue'])
    const process = accept!.accept!.find(child => 'process generate' in child)!
    // The order within a millisecond is undefined.
    expect(process['process generate']!.map(names as never).toSorted()).toEqual(
      run['process generate'].map(names as never).toSorted(),
    )
    const [call] = named(spans, CALL)
    expect(stack.upstream.calls[0]!.headers.traceparent).toBe(traceparentOf(call!))
    expect(call).toMatchObject({
      service: 'sluice-worker',
      kind: 3,
      failed: false,
      attributes: {
        'gen_ai.operation.name': 'chat',
        'gen_ai.provider.name': 'anthropic',
        'gen_ai.request.model': 'claude-haiku-5-5',
        'gen_ai.request.max_tokens': 77,
        'gen_ai.request.temperature': 0.5,
        'gen_ai.output.type': 'text',
        'gen_ai.response.model': answer.body.model,
        'gen_ai.response.finish_reasons': ['stop'],
        'gen_ai.usage.input_tokens': answer.body.usage.input_tokens,
        'gen_ai.usage.output_tokens': answer.body.usage.output_tokens,
        'server.address': '127.0.0.1',
        'server.port': stack.upstream.port,
        'sluice.attempt': 1,
      },
    })
    expect(named(spans, 'POST /api/v1/tasks/generate')[0]).toMatchObject({
      service: 'sluice-api',
      kind: 2,
      attributes: { 'http.response.status_code': 200, 'sluice.request.id': answer.headers.get('x-request-id') },
    })
    expect(named(spans, 'process generate')[0]!.attributes).toMatchObject({
      'sluice.task.id': answer.body.task_id,
      'sluice.task.status': 'succeeded',
      'sluice.task.source': 'ai',
    })
    expect(collector.requests[0]).toMatchObject({ path: '/v1/traces', headers: { authorization: 'Basic cGs6c2s=' } })
    // Prompts are not recorded by default.
    expect(JSON.stringify(spans)).not.toContain('planted')
  })

  test('each attempt has a span with its error', async () => {
    const trace = newTrace()
    stack.upstream.script({ status: 400, message: 'quoting the planted prompt' })
    const { body } = await submit(stack, 'the planted prompt', trace.traceparent, { fallback: 'none' })
    expect(body.status).toBe('failed')
    const spans = await traced(trace, 8)
    expect(named(spans, CALL)[0]).toMatchObject({
      failed: true,
      attributes: { 'error.type': 'invalid_request', 'http.response.status_code': 400 },
    })
    expect(named(spans, 'process generate')[0]).toMatchObject({
      failed: true,
      attributes: { 'error.type': 'provider_rejected', 'sluice.task.status': 'failed' },
    })
    expect(JSON.stringify(spans)).not.toContain('planted')
  })

  test('a retried task stays in its trace, with a span for each wait in the queue', async () => {
    const trace = newTrace()
    stack.upstream.script({ status: 500 })
    expect((await submit(stack, 'Again', trace.traceparent)).body.status).toBe('succeeded')
    const spans = await traced(trace, 15)
    expect(named(spans, 'queue')).toHaveLength(2)
    expect(named(spans, CALL).map(span => [span.attributes['sluice.attempt'], span.failed])).toEqual(
      expect.arrayContaining([
        [1, true],
        [2, false],
      ]),
    )
  })

  test('an unsampled request leaves no spans, and the provider gets the unsampled traceparent', async () => {
    const trace = newTrace('00')
    expect((await submit(stack, 'Unsampled', trace.traceparent)).body.status).toBe('succeeded')
    expect(stack.upstream.calls[0]!.headers.traceparent).toMatch(new RegExp(`^00-${trace.id}-[0-9a-f]{16}-00$`))
    // Later spans are exported.
    const later = newTrace()
    await submit(stack, 'Later', later.traceparent)
    await traced(later, 9)
    expect(collector.spans.filter(span => span.traceId === trace.id)).toEqual([])
  })

  test('an invalid traceparent starts a new trace', async () => {
    const { body } = await submit(stack, 'Alone', `00-${'0'.repeat(32)}-${PARENT}-01`)
    const [run] = await collector.until(
      1,
      span => span.attributes['sluice.task.id'] === body.task_id && span.kind === 5,
    )
    const roots = await collector.until(1, span => span.traceId === run!.traceId && span.parentSpanId === null)
    expect(roots.map(span => span.name)).toEqual(['POST /api/v1/tasks/generate'])
  })

  test('a webhook belongs to the trace of its task, and its receiver gets the traceparent', async () => {
    const receiver = await startReceiver()
    const trace = newTrace()
    await submit(stack, 'Tell', trace.traceparent, { webhook_url: `${receiver.url}/hook?token=planted` })
    const [received] = await receiver.until(1)
    const spans = await traced(trace, 10)
    const [delivery] = named(spans, 'webhook task.succeeded')
    expect(received!.headers.traceparent).toBe(traceparentOf(delivery!))
    expect(delivery).toMatchObject({ parentSpanId: named(spans, 'accept')[0]!.spanId, kind: 3, failed: false })
    expect(JSON.stringify(delivery)).not.toContain('planted')
    await receiver.close()
  })

  test('a batch is one trace of its steps and a sample of its lines', async () => {
    const native = createNative(stack, () => 'the-admin-key-of-this-test')
    const trace = newTrace()
    const answer = await stack.call('POST', `/api/v1/batches?${new URLSearchParams(asking())}`, {
      headers: { traceparent: trace.traceparent },
      body: numbered(45).map(name => ({ custom_id: name, input: { prompt: name } })),
    })
    expect((await native.ended(answer.body)).counts).toMatchObject({ succeeded: 45 })
    await collector.until(1, span => span.traceId === trace.id && span.name === 'batch finalize')
    const spans = await collector.until(3, span => span.traceId === trace.id && span.name === 'process generate')
    const steps = collector.spans.filter(span => span.traceId === trace.id && span.name.startsWith('batch '))
    expect(steps.map(span => span.name).toSorted()).toEqual(['batch finalize', 'batch run', 'batch validate'])
    // By task: on a busy machine a line may be run again.
    expect(new Set(spans.map(span => span.attributes['sluice.task.id'])).size).toBe(3)
    const run = steps.find(span => span.name === 'batch run')!
    expect(spans.every(span => span.parentSpanId === run.spanId)).toBe(true)
    const sampled = stack.upstream.calls.filter(call => call.headers.traceparent !== undefined)
    expect(new Set(sampled.map(call => call.prompt)).size).toBe(3)
    expect(new Set(stack.upstream.calls.map(call => call.prompt)).size).toBe(45)
  })
})

describe('with message capture', () => {
  const stack = startStack(() => ({
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_SERVICE_NAME: 'mine',
    OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT: 'true',
  }))

  test('call spans hold prompts and answers', async () => {
    const trace = newTrace()
    stack.upstream.default({ text: 'the answer' })
    await stack.submit(
      { input: { prompt: 'the question', system: 'Be brief.' } },
      { headers: { traceparent: trace.traceparent, prefer: 'wait=30' } },
    )
    const [call] = await collector.until(1, span => span.traceId === trace.id && span.name === CALL)
    const { attributes, service } = call!
    expect(service).toBe('mine')
    const said = (name: string) => JSON.parse(attributes[name] as string)
    expect(said('gen_ai.system_instructions')).toEqual([{ type: 'text', content: 'Be brief.' }])
    expect(said('gen_ai.input.messages')).toEqual([
      { role: 'user', parts: [{ type: 'text', content: 'the question' }] },
    ])
    expect(said('gen_ai.output.messages')).toEqual([
      { role: 'assistant', parts: [{ type: 'text', content: 'the answer' }], finish_reason: 'stop' },
    ])
  })
})

describe('without a collector', () => {
  /** The process fails if it tries to load the SDK. */
  const NO_SDK = `import { registerHooks } from 'node:module'
    registerHooks({ resolve(name, context, next) {
      if (/^@opentelemetry.(sdk|exporter|resources)/.test(name)) process.exit(99)
      return next(name, context)
    } })`
  const stack = startStack(() => ({
    NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(NO_SDK)}`,
  }))

  test('nothing is traced, the provider gets no traceparent and the SDK is not loaded; the task keeps its traceparent', async () => {
    const trace = newTrace()
    expect((await submit(stack, 'Untraced', trace.traceparent)).body.status).toBe('succeeded')
    expect(stack.upstream.calls[0]!.headers.traceparent).toBeUndefined()
    expect(await stack.sql('SELECT traceparent FROM tasks')).toEqual([{ traceparent: trace.traceparent }])
  })
})

describe.each([
  ['hangs', () => collector.url],
  ['is unreachable', () => 'http://127.0.0.1:1'],
])('with a collector that %s', (_, url) => {
  beforeAll(() => collector.answers(() => undefined))
  const stack = startStack(() => ({ OTEL_EXPORTER_OTLP_ENDPOINT: url() }))

  test('tasks are answered, and dropped spans are counted', async () => {
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, n) => stack.finished({ input: { prompt: `[[${n}]]` } })),
    )
    expect(answers.map(task => task.status)).toEqual(Array(50).fill('succeeded'))
    const counted = async () => await (await fetch(`http://127.0.0.1:${stack.worker.port}/metrics`)).text()
    await vi.waitFor(
      async () =>
        expect(await counted()).toMatch(/^sluice_spans_dropped_total\{[^}]*reason="export_failed"[^}]*\} [1-9]/m),
      { timeout: 20_000, interval: 250 },
    )
  })
})
