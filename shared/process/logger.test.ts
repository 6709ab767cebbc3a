import { expect, test } from 'vitest'
import { createLogger, type LoggerOptions } from './logger.ts'

function logged(log: (logger: ReturnType<typeof createLogger>) => void, more: Partial<LoggerOptions> = {}) {
  const lines: string[] = []
  log(createLogger({ level: 'info', name: 'test', ...more }, { write: line => void lines.push(line) }))
  return { text: lines.join(''), line: JSON.parse(lines[0]!) }
}

test('a logged error has its class, message, code, frames and causes', () => {
  const cause = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })
  const { line } = logged(logger => logger.error({ err: new TypeError('fetch failed', { cause }) }, 'it failed'))
  expect(line).toMatchObject({
    level: 'error',
    msg: 'it failed',
    err: {
      type: 'TypeError',
      message: 'fetch failed',
      stack: expect.stringMatching(/^TypeError: fetch failed\n {4}at .*logger.test/),
      cause: { message: 'connect ECONNREFUSED', code: 'ECONNREFUSED' },
    },
  })
})

test.each([
  [
    'the request and the answer of an SDK',
    { headers: { a: 'planted' }, request: { body: 'planted' }, error: 'planted' },
  ],
  ['the row of a Postgres error', { detail: 'Failing row contains (planted)', where: 'planted', code: '23514' }],
  ['the arguments of a Redis command', { command: { name: 'set', args: ['planted'] } }],
  ['a cause that is not an error', { cause: 'planted' }],
])('a logged error does not contain %s', (_, more) => {
  expect(logged(logger => logger.error({ err: Object.assign(new Error('it failed'), more) })).text).not.toContain(
    'planted',
  )
})

test.each([
  ['the answer of a provider', Object.assign(new Error('400 {"message":"your prompt: planted"}'), { status: 400 })],
  ['text that is not JSON', parseError('planted')],
  ['a value', Object.assign(new Error('invalid syntax: "planted"'), { severity: 'ERROR', code: '22P02' })],
])('a message that quotes %s is withheld, also in the stack and in a cause', (_, cause) => {
  expect(cause.message).toContain('planted')
  const { text } = logged(logger => {
    logger.error({ err: cause })
    logger.error(cause)
    logger.error({ err: new Error('outer', { cause }) })
  })
  expect(text.split('\n')).toHaveLength(4)
  expect(text).not.toContain('planted')
})

test('secrets of the settings and texts that look like keys are masked everywhere in a line', () => {
  const secrets = ['the-"admin"-key', 'short']
  const { text } = logged(
    logger =>
      logger.info({ url: 'http://x/the-"admin"-key' }, 'sk-sluice-abcdefghijklmnop Bearer abcdefghijklmnop short'),
    { secrets },
  )
  expect(JSON.parse(text)).toMatchObject({ url: 'http://x/[secret]', msg: '[secret] [secret] short' })
})

function parseError(text: string): Error {
  try {
    return JSON.parse(text)
  } catch (error) {
    return error as Error
  }
}
