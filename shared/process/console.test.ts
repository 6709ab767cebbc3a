import { expect, it } from 'vitest'
import { logConsole } from './console.ts'
import { createLogger } from './logger.ts'

function capture() {
  const lines: Record<string, unknown>[] = []
  const console = { warn() {}, error() {} }
  logConsole(
    createLogger({ level: 'info', name: 'test' }, { write: line => void lines.push(JSON.parse(line)) }),
    console,
  )
  return { console: console as Console, texts: () => lines.map(line => line.text) }
}

it('the log gets each text that a library writes to the console once, without further arguments', () => {
  const { console, texts } = capture()
  for (const word of ['secret', 'another']) {
    console.warn('This model is old.\nMove on.')
    console.error('cannot read: ', word)
  }
  console.warn(new Error('secret'))
  expect(texts()).toEqual(['This model is old.\nMove on.', 'cannot read: '])
})

it('the log bounds console texts in length and number', () => {
  const { console, texts } = capture()
  for (let n = 0; n < 1000; n++) console.warn(`${n} ${'x'.repeat(1000)}`)
  expect(texts()).toHaveLength(100)
  expect(texts()[0]).toHaveLength(300)
})
