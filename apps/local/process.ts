import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { randomBytes, randomInt } from 'node:crypto'
import { closeSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/** Something cannot start on this machine. `message` is one line for the operator. */
export class StartError extends Error {}

/** What went wrong, on one line: drizzle puts the statement into the message, and a refused connection has only a code. */
export function reasonOf(error: unknown): string {
  const { message, cause, code } = error as Error & { cause?: Error; code?: string }
  return (cause?.message || message || code || String(error)).split('\n')[0] ?? ''
}

export type Exit = { code: number | null; signal: NodeJS.Signals | null }

/** A process of ours that runs. */
export type Running = {
  pid: number
  /** Never rejects. */
  exited: Promise<Exit>
  /** Asks it to end, insists after a deadline, and resolves when it is gone. */
  stop(): Promise<void>
  /** For the second Ctrl-C: as fast as its data allow, without waiting. */
  kill(): void
}

/** A server of ours that answers at `url`. */
export type Server = Running & { url: string; port: number }

/** Servers get nothing of our environment: it holds the provider keys, and PG* and LC_* variables change what they do. */
export const serverEnv = { PATH: process.env.PATH ?? '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C' }

export const isRoot = () => process.getuid?.() === 0

export const exitOf = (child: ChildProcess): Promise<Exit> =>
  new Promise(resolve => {
    child.once('exit', (code, signal) => resolve({ code, signal }))
    child.once('error', () => resolve({ code: 127, signal: null }))
  })

export const describeExit = ({ code, signal }: Exit) => (signal ? `was ended by ${signal}` : `exited with code ${code}`)

/** Whether `promise` settles within `ms`. */
export async function settlesWithin(promise: Promise<unknown>, ms: number): Promise<boolean> {
  const timer = new AbortController()
  const late = delay(ms, false, { signal: timer.signal }).catch(() => false)
  const settled = await Promise.race([promise.then(() => true), late])
  timer.abort()
  return settled
}

export function signalIfAlive(pid: number, signal: NodeJS.Signals) {
  // kill(0) would mean our own process group, and 0 is what a process that never started has.
  if (pid <= 0) return
  try {
    process.kill(pid, signal)
  } catch {
    // It ended by itself a moment ago.
  }
}

/** Sends each signal in turn, giving the process that many milliseconds to end; SIGKILL comes last. */
export async function endProcess(
  { pid, exited }: Pick<Running, 'pid' | 'exited'>,
  steps: [NodeJS.Signals, number][],
): Promise<void> {
  for (const [signal, ms] of [...steps, ['SIGKILL', 5000] as const]) {
    signalIfAlive(pid, signal)
    if (await settlesWithin(exited, ms)) return
  }
}

/** The command line of a process; null if there is none. A zombie, which nobody may reap in a container, has none. */
export function commandOf(pid: number): string | null {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim() || null
  } catch {
    if (process.platform === 'linux') return null
    return spawnSync('ps', ['-o', 'command=', '-p', String(pid)], { encoding: 'utf8' }).stdout?.trim() || null
  }
}

/** Ends what an earlier run that was killed left behind; `isOurs` sees its command line, as pids are used again. */
export async function endLeftover(
  pid: number,
  isOurs: (command: string) => boolean,
  steps: [NodeJS.Signals, number][],
): Promise<void> {
  const alive = () => isOurs(commandOf(pid) ?? '')
  if (!alive()) return
  const abandon = new AbortController()
  const gone = (async (): Promise<Exit> => {
    while (alive() && !abandon.signal.aborted) await delay(50)
    return { code: null, signal: null }
  })()
  await endProcess({ pid, exited: gone }, steps)
  abandon.abort()
}

/** The pid on the first line of a file; null if there is no such file or number. */
export function readPid(file: string): number | null {
  try {
    return Number.parseInt(readFileSync(file, 'utf8'), 10) || null
  } catch {
    return null
  }
}

const listens = (port: number) =>
  new Promise<boolean>(resolve => {
    const probe = createServer()
    probe.once('error', () => resolve(false))
    probe.listen({ port, host: '127.0.0.1', exclusive: true }, () => probe.close(() => resolve(true)))
  })

/**
 * A free TCP port below the range from which Linux (32768 up) and macOS (49152 up) pick the local ports of connections.
 * Clients hammer the port of a server that is being restarted; within that range one of them sooner or later gets the
 * very port that it connects to, is connected to itself, and the server cannot bind any more.
 */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < 100; tries++) {
    const port = randomInt(20_000, 32_000)
    if (await listens(port)) return port
  }
  throw new StartError('no free TCP port between 20000 and 32000 on 127.0.0.1')
}

/** Writes so that a reader, or a crash, meets the old content or the new and never half of it. */
export function writeAtomic(file: string, content: string, mode = 0o600) {
  const temporary = `${file}.${process.pid}.new`
  rmSync(temporary, { force: true })
  writeFileSync(temporary, content, { mode, flush: true })
  renameSync(temporary, file)
}

/** The secret kept in `file` (mode 0600), made by `make` at the first call. */
export function keptSecret(file: string, make = () => randomBytes(24).toString('base64url')): string {
  try {
    const kept = readFileSync(file, 'utf8').trim()
    if (kept) return kept
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  const secret = make()
  writeAtomic(file, `${secret}\n`)
  return secret
}

/** Starts a server with its output in `log`; the output of the run before is kept beside it, so both stay bounded. */
export function spawnServer(o: {
  command: string
  args: string[]
  log: string
  argv0?: string
  owner?: { uid: number; gid: number } | null
}) {
  try {
    renameSync(o.log, `${o.log}.old`)
  } catch {
    // The first run.
  }
  const output = openSync(o.log, 'w', 0o600)
  const child = spawn(o.command, o.args, {
    ...o.owner,
    ...(o.argv0 ? { argv0: o.argv0 } : {}),
    // Not the directory that we stand in: the owner may not be allowed to look at it.
    cwd: '/',
    env: serverEnv,
    // Ctrl-C in a terminal reaches its whole process group; these go down last, when we say so.
    detached: true,
    stdio: ['ignore', output, output],
  })
  closeSync(output)
  return { pid: child.pid ?? 0, exited: exitOf(child) }
}

/** The last lines of a log that say something, on one line. */
export function lastWords(log: string): string {
  try {
    return readFileSync(log, 'utf8').trim().split('\n').slice(-3).join(' | ').slice(-400)
  } catch {
    return ''
  }
}
