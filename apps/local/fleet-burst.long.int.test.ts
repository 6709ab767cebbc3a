import { test, vi } from 'vitest'
import { growAndShrink, startFleet } from '#apps/testing/faults/local-fleet.ts'

// 20,000 calls, of which one process makes 170 a second.
vi.setConfig({ testTimeout: 480_000 })

test('a burst of 20,000 tasks grows the fleet, which shrinks again, and no task is lost', async ({
  onTestFinished,
}) => {
  const env = { WORKERS_MIN: '1', WORKERS_MAX: '3', WORKER_CONCURRENCY: '10', WORKER_CONCURRENCY_MAX: '100' }
  const fleet = await startFleet({ env, onTestFinished })
  // One process answers 170 a second at most, and any machine accepts more.
  fleet.upstream.default({ text: 'done', delayMs: 600 })
  await growAndShrink(fleet, 20_000)
})
