import { PassThrough } from 'node:stream'
import { expect, test } from 'vitest'
import type { Batch } from '../client/index.ts'
import { createProgress } from './progress.ts'

const batch = (succeeded: number, more: Partial<Batch> = {}): Batch => ({
  id: 'batch_1',
  status: 'in_progress',
  kind: null,
  endpoint: '/v1/chat/completions',
  counts: { total: 100, succeeded, failed: 2, cancelled: 0, expired: 0 },
  rate_per_second: 12.34,
  eta_seconds: 65,
  usage: { input_tokens: 0, output_tokens: 0, cache_read_tokens: 0, cache_write_tokens: 0, reasoning_tokens: 0 },
  cost_usd: 1.239,
  cost_bound_usd: null,
  max_cost_usd: null,
  model: null,
  errors: null,
  metadata: null,
  input_file_id: 'file-1',
  output_file_id: null,
  error_file_id: null,
  created_at: '2026-01-01T00:00:00.000Z',
  in_progress_at: null,
  finished_at: null,
  expires_at: '2026-01-02T00:00:00.000Z',
  urls: { self: '', results: '', events: '', cancel: '', retry: '' },
  ...more,
})

function streamOf(more: object) {
  const stream = Object.assign(new PassThrough(), more) as unknown as NodeJS.WriteStream & PassThrough
  let said = ''
  stream.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  return { stream, said: () => said }
}

test('without a terminal, a line is printed at every change of the status and every five seconds', () => {
  const { stream, said } = streamOf({ isTTY: false })
  let now = 0
  const progress = createProgress(stream, { shown: true, now: () => now })
  progress.update(batch(1))
  now = 4999
  progress.update(batch(2))
  now = 5000
  progress.update(batch(3))
  progress.update(batch(4, { status: 'finalizing' }))
  expect(said()).toBe(
    'in progress, 3 of 100 (3%), 12.3/s, 1 min 5 s left, $1.24, 2 failed\n' +
      'in progress, 5 of 100 (5%), 12.3/s, 1 min 5 s left, $1.24, 2 failed\n' +
      'finalizing, 6 of 100 (6%), 12.3/s, 1 min 5 s left, $1.24, 2 failed\n',
  )
})

test('on a terminal, the bar is removed for messages and at the end', () => {
  const { stream, said } = streamOf({ isTTY: true, columns: 120 })
  const progress = createProgress(stream, { shown: true })
  progress.update(batch(0, { status: 'validating', counts: { ...batch(0).counts, total: 0, failed: 0 } }))
  progress.update(batch(48))
  progress.say('something to know')
  progress.update(batch(50, { status: 'finalizing' }))
  progress.end()
  expect(said()).toContain(`${'█'.repeat(15)}${'░'.repeat(15)} 50%  50/100  12.3/s  1 min 5 s left  $1.24  2 failed`)
  expect(said()).toContain('░ validating  12.3/s')
  expect(said()).toContain('something to know\n')
  expect(said()).toContain('52/100  finalizing  12.3/s')
  // The cursor that it hid is back.
  expect(said().lastIndexOf('\x1b[?25h')).toBeGreaterThan(said().lastIndexOf('\x1b[?25l'))
})

test('figures that the server does not know are left out', () => {
  const { stream, said } = streamOf({ isTTY: false })
  const counts = {
    total: null,
    succeeded: null,
    failed: null,
    cancelled: null,
    expired: null,
  } as unknown as Batch['counts']
  const unknown = { rate_per_second: null, eta_seconds: null, cost_usd: null as unknown as number, counts }
  createProgress(stream, { shown: true }).update(batch(0, { status: 'validating', ...unknown }))
  expect(said()).toBe('validating\n')
})

test('no progress is shown with --no-progress', () => {
  const { stream, said } = streamOf({ isTTY: true })
  const progress = createProgress(stream, { shown: false })
  progress.update(batch(1))
  progress.say('a line')
  expect(said()).toBe('a line\n')
})
