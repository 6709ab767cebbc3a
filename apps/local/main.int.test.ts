import { execFile } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { temporaryDirectory } from '#apps/testing/setup/temporary.ts'
import { lockDirectory } from './lock.ts'

/** Runs the main of `npm start` and resolves to its exit code and output. */
const start = (env: Record<string, string>) =>
  new Promise<{ code: number | string | null | undefined; said: string }>(resolve => {
    const main = join(import.meta.dirname, 'main.ts')
    execFile(process.execPath, [main], { env: { PATH: process.env.PATH ?? '', ...env } }, (error, stdout, stderr) =>
      resolve({ code: error ? error.code : 0, said: stdout + stderr }),
    )
  })

test('an invalid setting is reported in one line', async () => {
  const dir = temporaryDirectory()
  const { code, said } = await start({ DATA_DIR: dir, PORT: 'http' })
  expect(code).toBe(1)
  expect(said).toMatch(/^sluice: PORT: .+\n$/)
  expect(readdirSync(dir)).toEqual([])
})

test('a second start on the same DATA_DIR is refused in one line with the pid of the first', async () => {
  const dir = temporaryDirectory()
  const unlock = lockDirectory(dir)
  const { code, said } = await start({ DATA_DIR: dir })
  expect(code).toBe(1)
  expect(said).toMatch(new RegExp(`^sluice: .*pid ${process.pid}.*\n$`))
  unlock()
  expect(readdirSync(dir)).toEqual([])
})
