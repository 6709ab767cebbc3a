import { expect, it } from 'vitest'
import { createLog } from './log.ts'

it('of an error there is its message and its code, not the row that it was about', () => {
  const lines: string[] = []
  const error = Object.assign(new Error('violates check constraint'), {
    code: '23514',
    detail: 'Failing row: (…, my secret)',
  })
  createLog('comments', 'info', { write: line => void lines.push(line) }).error({ err: error }, 'request failed')
  expect(JSON.parse(lines[0]!)).toMatchObject({ err: { message: 'violates check constraint', code: '23514' } })
  expect(lines[0]).not.toContain('secret')
})
