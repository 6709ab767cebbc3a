import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { randomBytes, randomInt } from 'node:crypto'
import { closeSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/** A part cannot start on this machine. `message` is one line for the operator. */
export class StartError extends Error {}

/** The reason on one line: drizzle puts the statement into the message, and a refused connection has only a code. */
export function reasonOf(error: unknown): string {
  const { message, cause, code } = error as Error & { cause?: Error; code?: string }
  return (cause?.message || message || code || String(error)).split('\n')[0] ?? ''
}

export type Exit = { code: number | null; signal: NodeJS.Signals | null }

/** A running process. */
export type Running = {
  pid: number
  /** Never rejects. */
  exited: Promise<Exit>
  /** Asks it to stop, kills it after a deadline, and resolves when it is gone. */
  stop(): Promise<void>
  /** For the second Ctrl-C: ends it as fast as is safe for its data, without waiting. */
  kill(): void
}

/** A running server that answers at `url`. */
export type Server = Running & { url: string; port: number }

/** Servers do not get the environment of this process: it has the provider keys, and PG* and LC_* variables change their behaviour. */
export const serverEnv = { PATH: process.env.PATH ?? '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C' }

/** A host may be an IPv6 address. */
export const httpUrl = (host: string, port: number) => `http://${host.includes(':') ? `[${host}]` : host}:${port}`

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
  // A process that never started has pid 0, and kill(0) would signal our own process group.
  if (pid <= 0) return
  try {
    process.kill(pid, signal)
  } catch {
    // It has just exited.
  }
}

/** Sends each signal in turn and gives the process that many milliseconds to exit; SIGKILL comes last. */
export async function endProcess(
  { pid, exited }: Pick<Running, 'pid' | 'exited'>,
  steps: [NodeJS.Signals, number][],
): Promise<void> {
  for (const [signal, ms] of [...steps, ['SIGKILL', 5000] as const]) {
    signalIfAlive(pid, signal)
    if (await settlesWithin(exited, ms)) return
  }
}

/** The command line of a process; null if there is none. A zombie, which is never reaped in some containers, has none. */
export function commandOf(pid: number): string | null {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim() || null
  } catch {
    if (process.platform === 'linux') return null
    return spawnSync('ps', ['-o', 'command=', '-p', String(pid)], { encoding: 'utf8' }).stdout?.trim() || null
  }
}

/** Ends a process that a killed run left behind. `isOurs` checks its command line, because pids are reused. */
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
 * While a server restarts, clients keep connecting to its port. Within that range a client would sooner or later get
 * that port as its own local port, connect to itself, and prevent the server from binding.
 */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < 100; tries++) {
    const port = randomInt(20_000, 32_000)
    if (await listens(port)) return port
  }
  throw new StartError('no free TCP port between 20000 and 32000 on 127.0.0.1')
}

/** Replaces a file so that readers and crashes see either the old content or the new. */
export function writeAtomic(file: string, content: string, mode = 0o600) {
  const temporary = `${file}.${process.pid}.new`
  rmSync(temporary, { force: true })
  writeFileSync(temporary, content, { mode, flush: true })
  renameSync(temporary, file)
}

/** The secret in `file` (mode 0600), which the first call creates with `make`. */
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

/** Starts a server with its output in `log`; the output of the previous run is kept in `<log>.old`. */
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
    // The owner may not be allowed to enter the current directory.
    cwd: '/',
    env: serverEnv,
    // Ctrl-C in a terminal reaches its whole process group, but servers stop last.
    detached: true,
    stdio: ['ignore', output, output],
  })
  closeSync(output)
  return { pid: child.pid ?? 0, exited: exitOf(child) }
}

/** The last lines of a log, on one line. */
export function lastLines(log: string): string {
  try {
    return readFileSync(log, 'utf8').trim().split('\n').slice(-3).join(' | ').slice(-400)
  } catch {
    return ''
  }
}
