import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type CollectedSpan, type Collector, startCollector } from '#shared/testing/collector.ts'
import { startMachine } from '#shared/testing/machine.ts'

const CALLER = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331' }
const traceparent = `00-${CALLER.traceId}-${CALLER.spanId}-01`

let collector: Collector
beforeAll(async () => {
  collector = await startCollector()
})
afterAll(() => collector.close())

describe('with a collector', () => {
  const machine = startMachine(() => ({
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_EXPORTER_OTLP_HEADERS: 'Authorization=Basic%20cGs6c2s%3D',
  }))

  test('a task is one trace, from the request of its caller to the provider', async () => {
    const answer = await machine.submit(
      { input: { prompt: 'Say [[hello]]' } },
      { headers: { traceparent, prefer: 'wait=30' } },
    )
    expect(answer.body.status).toBe('succeeded')
    const spans = await collector.until(9, span => span.traceId === CALLER.traceId)
    const tree = treeOf(spans, CALLER.spanId)
    expect(tree).toEqual([
      {
        'POST /api/v1/tasks/generate': [
          {
            accept: [
              { queue: [] },
              {
                'process generate': [
                  { gate: [] },
                  { claim: [] },
                  { 'chat claude-haiku-5-5': [] },
                  { check: [] },
                  { settle: [] },
                ],
              },
            ],
          },
        ],
      },
    ])
  })
})

type Tree = Record<string, Tree>[]

/** Names, nested, the children in the order in which they began. */
function treeOf(spans: CollectedSpan[], parent: string | null): Tree {
  return spans
    .filter(span => span.parentSpanId === parent)
    .toSorted((a, b) => a.startMs - b.startMs)
    .map(span => ({ [span.name]: treeOf(spans, span.spanId) }))
}
