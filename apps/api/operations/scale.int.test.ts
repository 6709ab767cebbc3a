import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { sharedStack } from '#shared/testing/stack.ts'

const stack = sharedStack()

describe('GET /scale', () => {
  it('returns without a key how many workers a queue needs', async () => {
    const scale = () => stack.call('GET', '/scale?queue=default', { key: null })
    const idle = { queue: 'default', waiting: 0, oldest_wait_seconds: 0, live_slots: 20, live_workers: 1 }
    await expect.poll(scale).toMatchObject({ status: 200, body: idle })
    const { body } = await scale()
    expect(body.workers).toBe(Math.ceil(body.slots / 20))
  })

  it('sums the queues of a pool', async () => {
    const { body } = await stack.call('GET', '/scale?queue=default,moderate', { key: null })
    expect(body.slots).toBeGreaterThanOrEqual(0)
    expect(body.live_workers).toBe(1)
  })

  it('answers each query of the KEDA manifests', async () => {
    const file = new URL('../../../deploy/components/keda/scaled-objects.yaml', import.meta.url)
    const triggers = parseAllDocuments(readFileSync(file, 'utf8')).flatMap(document => document.toJS().spec.triggers)
    expect(triggers.length).toBeGreaterThan(1)
    for (const { metadata } of triggers) {
      const { pathname, search } = new URL(metadata.url)
      const { status, body } = await stack.call('GET', `${pathname}${search}`, { key: null })
      expect(status).toBe(200)
      expect(body[metadata.valueLocation]).toSatisfy(Number.isInteger)
    }
  })

  it.each([
    '',
    '?queue=',
    '?queue=everything',
    '?queue=default,',
    '?queue=default&pool=1',
    '?queue=default&queue=batch',
  ])('refuses %j', async query => {
    const { status, body } = await stack.call('GET', `/scale${query}`, { key: null })
    expect(status).toBe(422)
    expect(body.code).toBe(query.includes('pool') ? 'unknown_field' : 'invalid_request')
  })

  it('is in the metrics, with the live workers', async () => {
    const scrape = async () => (await stack.call('GET', '/metrics', { key: null })).body
    // A read that takes too long omits its gauges from one scrape.
    await expect.poll(scrape).toMatch(/^sluice_scale_wanted\{queue="default",part="api"\} \d+$/m)
    await expect.poll(scrape).toMatch(/^sluice_fleet_workers\{queue="moderate",part="api"\} 1$/m)
    await expect.poll(scrape).toMatch(/^sluice_queue_oldest_wait_seconds\{queue="batch",part="api"\} 0$/m)
  })
})
