import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'
import { COMPILE_CACHE } from '#shared/process/compile-cache.ts'

const MAIN = resolve(import.meta.dirname, '../main.ts')

export type Ran = { code: number | null; stdout: string; stderr: string }

export type SluiceOptions = {
  cwd: string
  env?: Record<string, string>
  node?: string
  main?: string
  stdout?: 'pipe' | number
  stdin?: Buffer | 'open' | null
}

/** Runs the command line as a process with no other environment than `env`. */
export function sluice(args: string[], options: SluiceOptions) {
  const { cwd, env = {}, node = process.execPath, main = MAIN, stdout = 'pipe', stdin = null } = options
  const child = spawn(node, [main, ...args], {
    cwd,
    env: { ...COMPILE_CACHE, ...env },
    stdio: [stdin === null ? 'ignore' : 'pipe', stdout, 'pipe'],
  })
  // The process may end before it has read all.
  child.stdin?.on('error', () => {})
  if (stdin !== 'open') child.stdin?.end(stdin)
  const said = { stdout: '', stderr: '' }
  const listeners = new Set<() => void>()
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.setEncoding('utf8').on('data', (text: string) => {
      said[name] += text
      for (const listener of listeners) listener()
    })
  }
  const ended: Promise<Ran> = once(child, 'close').then(([code]) => ({ code: code as number | null, ...said }))
  return {
    ended,
    kill: (signal: NodeJS.Signals) => child.kill(signal),
    /** As `| head` does when it has seen enough. */
    readNoMore() {
      child.stdout?.destroy()
      child.stderr?.destroy()
    },
    /** Resolves when stderr contains the text. @throws if the command ends before */
    async says(pattern: RegExp): Promise<void> {
      const matched = new Promise<void>(resolve => {
        const check = () => {
          if (!pattern.test(said.stderr)) return
          listeners.delete(check)
          resolve()
        }
        listeners.add(check)
        check()
      })
      const silent = ended.then(({ code }) => {
        if (!pattern.test(said.stderr)) throw new Error(`ended with ${code} without writing ${pattern}: ${said.stderr}`)
      })
      await Promise.race([matched, silent])
    },
  }
}
