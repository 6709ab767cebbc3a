import { execFileSync } from 'node:child_process'
import { expect, it } from 'vitest'
import { assignVariant } from './assign.ts'

const VARIANTS = [
  { name: 'control', weight: 50 },
  { name: 'short', weight: 30 },
  { name: 'long', weight: 20 },
]

it('assigns 100,000 users in another process to the same variants', () => {
  const program = `
    import { assignVariant } from ${JSON.stringify(new URL('./assign.ts', import.meta.url).href)}
    const variants = ${JSON.stringify(VARIANTS)}
    for (let i = 0; i < 100_000; i++) console.log(assignVariant('greeting', 'user-' + i, variants).name)`
  const output = execFileSync(process.execPath, ['--input-type=module', '--eval', program], { maxBuffer: 2 ** 24 })
  const theirs = output.toString().trim().split('\n')
  expect(theirs).toEqual(
    Array.from({ length: 100_000 }, (_, i) => assignVariant('greeting', `user-${i}`, VARIANTS)!.name),
  )
})
