import { expect, it } from 'vitest'
import { createLogger } from './logger.ts'
import { createOutageLog } from './outage-log.ts'

function logTo(lines: string[]) {
  return createLogger(
    { level: 'info', name: 'test' },
    {
      write(line) {
        const { level, msg } = JSON.parse(line)
        lines.push(`${level} ${msg}`)
      },
    },
  )
}

it('an outage is logged when it begins and when it ends', () => {
  const lines: string[] = []
  const outage = createOutageLog(logTo(lines), { failure: 'away', recovery: 'back' })
  outage.succeeded()
  for (let n = 0; n < 3; n++) outage.failed(new Error('refused'))
  for (let n = 0; n < 3; n++) outage.succeeded()
  outage.failed(new Error('refused'))
  expect(lines).toEqual(['warn away', 'info back', 'warn away'])
})

it('a failure that is no outage is logged as an error each time, also during an outage', () => {
  const lines: string[] = []
  const outage = createOutageLog(logTo(lines), {
    failure: 'away',
    recovery: 'back',
    unexpected: 'a turn failed',
    isOutage: error => (error as Error).message === 'refused',
  })
  for (const message of ['a bug', 'refused', 'refused', 'a bug']) outage.failed(new Error(message))
  expect(lines).toEqual(['error a turn failed', 'warn away', 'error a turn failed'])
})
