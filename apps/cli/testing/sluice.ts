import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'
import { onTestFinished } from 'vitest'

const MAIN = resolve(import.meta.dirname, '../main.ts')

export type Ran = { code: number | null; stdout: string; stderr: string }

/** The command line as a process of its own, in a directory of its own and with no other environment. */
export function sluice(
  args: string[],
  {
    cwd,
    env = {},
    node = process.execPath,
    main = MAIN,
    stdout = 'pipe',
  }: { cwd: string; env?: Record<string, string>; node?: string; main?: string; stdout?: 'pipe' | number },
) {
  const child = spawn(node, [main, ...args], { cwd, env: { ...env }, stdio: ['ignore', stdout, 'pipe'] })
  const said = { stdout: '', stderr: '' }
  const listeners = new Set<() => void>()
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.setEncoding('utf8').on('data', (text: string) => {
      said[name] += text
      for (const listener of listeners) listener()
    })
  }
  onTestFinished(() => void child.kill('SIGKILL'))
  const ended: Promise<Ran> = once(child, 'close').then(([code]) => ({ code: code as number | null, ...said }))
  return {
    ended,
    kill: (signal: NodeJS.Signals) => child.kill(signal),
    /** As `| head` does when it has seen enough. */
    readNoMore() {
      child.stdout?.destroy()
      child.stderr?.destroy()
    },
    /** Resolves when it has said so on stderr. @throws if it ends before */
    async says(what: RegExp): Promise<void> {
      const heard = new Promise<void>(resolve => {
        const look = () => {
          if (!what.test(said.stderr)) return
          listeners.delete(look)
          resolve()
        }
        listeners.add(look)
        look()
      })
      const silent = ended.then(({ code }) => {
        if (!what.test(said.stderr)) throw new Error(`ended with ${code} without saying ${what}: ${said.stderr}`)
      })
      await Promise.race([heard, silent])
    },
  }
}
