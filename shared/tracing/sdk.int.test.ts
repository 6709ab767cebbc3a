import { afterEach, beforeEach, expect, test } from 'vitest'
import { createMetrics } from '#shared/metrics/metrics.ts'
import { createLogger } from '#shared/process/logger.ts'
import { type Collector, startCollector } from '#shared/testing/collector.ts'
import { createTracing, FLUSH_MS } from './sdk.ts'

let collector: Collector
beforeEach(async () => {
  collector = await startCollector()
})
afterEach(() => collector.close())

function tracingTo(url: string, flushMs = 60_000) {
  const metrics = createMetrics('worker')
  const lines: string[] = []
  const logger = createLogger({ level: 'info', name: 'test' }, { write: line => void lines.push(line) })
  const options = { headers: {}, service: 'test', resource: {}, ratio: 1, content: false }
  const tracing = createTracing({ ...options, url: `${url}/v1/traces` }, { part: 'worker', metrics, logger }, flushMs)
  const dropped = async () =>
    Object.fromEntries((await metrics.spansDropped.get()).values.map(({ labels, value }) => [labels.reason, value]))
  const make = (count: number) => {
    for (let i = 0; i < count; i++) tracing.start('span', { parent: null }).end()
  }
  return { tracing, lines, dropped, make }
}

test('stopping sends each remaining span once', async () => {
  const { tracing, make, dropped, lines } = tracingTo(collector.url)
  make(1500)
  await tracing.stop()
  expect(new Set(collector.spans.map(span => span.spanId)).size).toBe(1500)
  expect(collector.spans).toHaveLength(1500)
  expect(await dropped()).toEqual({})
  expect(lines).toEqual([])
})

test('while the collector hangs, waiting spans are bounded; the others are counted and logged in one line', async () => {
  collector.answers(() => undefined)
  const { tracing, make, dropped, lines } = tracingTo(collector.url, FLUSH_MS)
  make(10_000)
  expect(await dropped()).toEqual({ queue_full: 10_000 - 4096 })
  await tracing.stop()
  expect(await dropped()).toEqual({ queue_full: 10_000 - 4096, export_failed: 4096 })
  expect(lines).toHaveLength(1)
  expect(JSON.parse(lines[0]!)).toMatchObject({
    level: 'warn',
    reason: 'queue_full',
    collector: new URL(collector.url).host,
  })
})

test('prompts are cut, and waiting spans are also bounded by size', async () => {
  collector.answers(() => undefined)
  const { tracing, dropped } = tracingTo(collector.url, FLUSH_MS)
  for (let i = 0; i < 1500; i++) {
    const span = tracing.start('span', { parent: null, attributes: { start: 'x'.repeat(100_000) } })
    span.end()
  }
  const { queue_full } = (await dropped()) as { queue_full: number }
  // 32 million characters are 976 times 32,768.
  expect(1500 - queue_full).toBe(976)
  await tracing.stop()
})

test('spans that the collector refuses are counted and not sent again', async () => {
  collector.answers(response => response.writeHead(400).end('planted'))
  const { tracing, make, dropped, lines } = tracingTo(collector.url)
  make(10)
  await tracing.stop()
  expect(await dropped()).toEqual({ export_failed: 10 })
  expect(collector.requests).toHaveLength(1)
  expect(lines).toHaveLength(1)
  expect(JSON.parse(lines[0]!)).toMatchObject({ spans: 10, reason: 'export_failed', code: 400 })
  expect(lines[0]).not.toContain('planted')
})
