import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { COMPILE_CACHE } from '#shared/process/compile-cache.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

export type Child = { process: ChildProcess; port: number; stop(): Promise<void> }

/**
 * Starts a main module as a child process with exactly this environment. Resolves when the child reports that it is ready.
 * @param onOutput receives stdout and stderr; by default they go to the output of the test
 * @throws if the child exits before it is ready
 */
export async function startChild(
  main: string,
  env: Record<string, string>,
  onOutput?: (text: string) => void,
): Promise<Child> {
  const to = onOutput ? 'pipe' : 'inherit'
  const child = spawn(process.execPath, [main], {
    cwd: ROOT,
    env: { ...COMPILE_CACHE, ...env },
    stdio: ['ignore', to, to, 'ipc'],
  })
  for (const stream of [child.stdout, child.stderr]) if (onOutput) stream?.setEncoding('utf8').on('data', onOutput)
  const exited = new Promise<number | null>(resolve => child.once('exit', resolve))
  const ready = new Promise<number>((resolve, reject) => {
    child.once('error', reject)
    child.on('message', message => resolve((message as { port: number }).port))
    void exited.then(code => reject(new Error(`${main} exited with code ${code} before it was ready`)))
  })
  return {
    process: child,
    port: await ready,
    async stop() {
      child.kill('SIGTERM')
      await exited
    },
  }
}
