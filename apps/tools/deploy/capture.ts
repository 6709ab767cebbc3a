import { spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'

export type Captured = { code: number | null; stdout: string; stderr: string }

/** Runs a command to its end; null if the command does not exist. */
export function capture(command: string, args: string[], cwd: string): Promise<Captured | null> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
    const output = Promise.all([text(child.stdout), text(child.stderr)])
    child.on('error', (error: NodeJS.ErrnoException) => (error.code === 'ENOENT' ? resolve(null) : reject(error)))
    child.on('close', code => output.then(([stdout, stderr]) => resolve({ code, stdout, stderr }), reject))
  })
}
