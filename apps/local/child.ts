import { spawn } from 'node:child_process'
import type { Writable } from 'node:stream'
import { COMPILE_CACHE } from '#shared/process/compile-cache.ts'
import { describeExit, type Exit, endProcess, exitOf, type Running, signalIfAlive } from './process.ts'

/** EX_CONFIG of sysexits.h: the child has printed which setting is wrong. */
export const EX_CONFIG = 78
const READY_WITHIN_MS = 60_000

/** The child exited, or was stopped, before it was ready. */
export class ChildError extends Error {
  readonly code: number | null
  constructor(message: string, code: number | null) {
    super(message)
    this.code = code
  }
}

export type Child = Running & {
  /** The port of its HTTP server, from its ready message. */
  port: number
  /** Sends a message, which is lost if the child is gone. */
  send(message: object): void
}

export type ChildOptions = {
  args: string[]
  cwd: string
  env: Record<string, string | undefined>
  /** How long the child may drain after SIGTERM before it is killed, in milliseconds. */
  drainMs: number
  /** The child holds this open as long as it lives, unless it is closed already, which spawn() would refuse. */
  held?: Writable
  signal?: AbortSignal
}

/**
 * Starts a Node process and resolves when it has sent `{ type: 'ready', port }`. A child whose IPC channel is closed,
 * because this process was killed, drains and exits by itself.
 * @throws ChildError
 */
export async function startChild(o: ChildOptions): Promise<Child> {
  const child = spawn(process.execPath, o.args, {
    cwd: o.cwd,
    env: { ...COMPILE_CACHE, ...o.env } as NodeJS.ProcessEnv,
    // In its own process group, so that Ctrl-C reaches only this process, which stops its children in order.
    detached: true,
    stdio: ['ignore', 'inherit', 'inherit', 'ipc', o.held && !o.held.destroyed ? o.held : 'ignore'],
  })
  const pid = child.pid ?? 0
  const exited = exitOf(child)
  const ready = new Promise<number>(resolve => {
    child.on('message', (message: { type?: unknown; port?: unknown }) => {
      if (message?.type === 'ready') resolve(Number(message.port))
    })
  })
  const running: Running = {
    pid,
    exited,
    stop: () => endProcess({ pid, exited }, [['SIGTERM', o.drainMs]]),
    kill: () => signalIfAlive(pid, 'SIGKILL'),
  }
  const outcome = await readyOrNot(ready, exited, o.signal)
  if (typeof outcome === 'number') {
    const send = (message: object) => void (child.connected && child.send(message, () => {}))
    return { ...running, port: outcome, send }
  }
  if (outcome !== 'exited') await running.stop()
  const exit = await exited
  throw new ChildError(outcome === 'exited' ? describeExit(exit) : outcome, exit.code)
}

async function readyOrNot(
  ready: Promise<number>,
  exited: Promise<Exit>,
  signal: AbortSignal | undefined,
): Promise<number | 'exited' | 'told to stop' | 'was not ready in time'> {
  if (signal?.aborted) return 'told to stop'
  const settled = new AbortController()
  const until = settled.signal
  try {
    return await new Promise(resolve => {
      const late = setTimeout(resolve, READY_WITHIN_MS, 'was not ready in time')
      until.addEventListener('abort', () => clearTimeout(late))
      signal?.addEventListener('abort', () => resolve('told to stop'), { signal: until })
      exited.then(() => resolve('exited'))
      ready.then(resolve)
    })
  } finally {
    settled.abort()
  }
}
