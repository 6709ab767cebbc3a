import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { startMachine } from '#shared/testing/machine.ts'

const machine = startMachine()

describe('GET /scale', () => {
  it('says without a key how many workers each queue wants', async () => {
    const { status, body } = await machine.call('GET', '/scale?queue=default', { key: null })
    expect(status).toBe(200)
    expect(body).toMatchObject({
      queue: 'default',
      waiting: 0,
      oldest_wait_seconds: 0,
      live_slots: 20,
      live_workers: 1,
    })
    expect(body.workers).toBe(Math.ceil(body.slots / 20))
  })

  it('adds up the queues of a pool', async () => {
    const { body } = await machine.call('GET', '/scale?queue=default,moderate', { key: null })
    expect(body.slots).toBeGreaterThanOrEqual(0)
    expect(body.live_workers).toBe(1)
  })

  it('answers each question that the manifests have KEDA ask', async () => {
    const file = new URL('../../../deploy/components/keda/scaled-objects.yaml', import.meta.url)
    const triggers = parseAllDocuments(readFileSync(file, 'utf8')).flatMap(document => document.toJS().spec.triggers)
    expect(triggers.length).toBeGreaterThan(1)
    for (const { metadata } of triggers) {
      const { pathname, search } = new URL(metadata.url)
      const { status, body } = await machine.call('GET', `${pathname}${search}`, { key: null })
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
  ])('refuses %j, saying which field is wrong', async query => {
    const { status, body } = await machine.call('GET', `/scale${query}`, { key: null })
    expect(status).toBe(422)
    expect(body.code).toBe('invalid_request')
  })

  it('is in the metrics, with what the fleet has', async () => {
    const scrape = async () => (await machine.call('GET', '/metrics', { key: null })).body
    // A look that took too long leaves its gauges out of one scrape.
    await expect.poll(scrape).toMatch(/^sluice_scale_wanted\{queue="default",part="api"\} \d+$/m)
    await expect.poll(scrape).toMatch(/^sluice_fleet_workers\{queue="moderate",part="api"\} 1$/m)
    await expect.poll(scrape).toMatch(/^sluice_queue_oldest_wait_seconds\{queue="batch",part="api"\} 0$/m)
  })
})
