import { spawn } from 'node:child_process'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Child, startChild } from '#apps/local/child.ts'
import { describeExit, freePort, signalIfAlive } from '#apps/local/process.ts'
import { nodeFlags } from '#apps/local/start.ts'
import { clockShiftedBy } from '#shared/testing/clock.ts'
import type { Closers } from '../setup/servers.ts'
import { patiently, type Servers } from './servers.ts'

const ROOT = resolve(import.meta.dirname, '../../..')
const SCRAPE_MS = 1000
const RESTART_MS = 500
const POLL_MS = 50
const FIRST_STARTS = 3
const OVER_RESERVATION = /^sluice_settled_above_reservation_total\{.*\} (\S+)$/gm

/** One process from its start to its end. */
export type Life = {
  /** Its API key for the providers, which identifies it to the upstream. */
  caller: string
  pid: number
  /** Id of its row in `workers`; null: an API, or unknown. */
  workerId: string | null
  /** Calls that cost more than their reservation, by its latest metrics. */
  aboveReservation: number
}

export type Slot = {
  role: 'api' | 'worker'
  name: string
  url: string
  readonly lives: Life[]
  /** Whether it runs and is not frozen. */
  fit(): boolean
  life(): Life
  /** kill -9, then a new process, whose clock may be ahead. Resolves when the new process serves. */
  kill(restartMs: number, daysAhead?: number): Promise<void>
  /** SIGSTOP, and SIGCONT after `forMs`. */
  freeze(forMs: number): Promise<void>
}

export type Fleet = Awaited<ReturnType<typeof startFleet>>

/** Starts API processes, and workers with `startWorkers`. A process that dies is restarted at its port. */
export async function startFleet(
  servers: Servers,
  apis: number,
  env: (caller: string) => Record<string, string>,
  log: (line: string) => void,
  closers: Closers,
) {
  const closing = new AbortController()
  const slots: (Slot & { scrape(): Promise<void>; end(): Promise<void> })[] = []
  closers.push(async () => {
    closing.abort()
    await Promise.all(slots.map(slot => slot.end()))
  })
  /** Deaths that no fault caused. */
  const deaths: string[] = []

  async function openSlot(role: Slot['role'], index: number) {
    const port = await freePort()
    const name = `${role}-${index}`
    const lives: Life[] = []
    let child: Child | null = null
    let frozenUntil = 0
    let killed = false
    let clock: Record<string, string> = {}

    async function start(): Promise<void> {
      const caller = `${name}-${lives.length + 1}`
      const entry = role === 'api' ? 'apps/api/main.ts' : 'workers/main.ts'
      const args = [...nodeFlags(entry), join(ROOT, entry)]
      const ports = { PORT: String(port), WORKER_PORT: String(port) }
      const options = {
        args,
        cwd: ROOT,
        env: { ...env(caller), ...ports, ...clock },
        drainMs: 1000,
        held: servers.held,
      }
      const started = await startChild({ ...options, signal: closing.signal })
      const life: Life = { caller, pid: started.pid, workerId: null, aboveReservation: 0 }
      lives.push(life)
      child = started
      killed = false
      void watch(started)
      if (role === 'worker') void identify(life)
    }

    async function identify(life: Life) {
      const ask = () => servers.sql<{ id: string }>('SELECT id FROM workers WHERE pid = $1', [life.pid])
      life.workerId = (await patiently(ask, 10_000))?.[0]?.id ?? null
    }

    async function watch(one: Child) {
      const exit = await one.exited
      if (child === one) child = null
      if (killed || closing.signal.aborted) return
      deaths.push(`${name} ${describeExit(exit)}`)
      log(`${name} ${describeExit(exit)} by itself`)
      await startAgain(RESTART_MS)
    }

    async function startAgain(afterMs: number): Promise<void> {
      await delay(afterMs, undefined, { signal: closing.signal }).catch(() => {})
      while (!closing.signal.aborted) {
        // Without Postgres it would exit again.
        while (!servers.postgres.up && !closing.signal.aborted) await delay(POLL_MS)
        const started = await start().then(
          () => true,
          () => false,
        )
        if (started) return
        await delay(RESTART_MS, undefined, { signal: closing.signal }).catch(() => {})
      }
    }

    for (let tries = 1; ; tries++) {
      const failure = await start().catch((error: Error) => error)
      if (!failure) break
      log(`${name} does not start: ${failure.message}`)
      if (tries === FIRST_STARTS) throw failure
    }
    slots.push({
      ...{ role, name, lives, url: `http://127.0.0.1:${port}` },
      fit: () => child !== null && !killed && performance.now() > frozenUntil,
      life: () => lives.at(-1)!,
      async kill(restartMs, daysAhead = 0) {
        killed = true
        clock = daysAhead === 0 ? {} : clockShiftedBy(daysAhead * 86_400)
        const victim = child!
        victim.kill()
        await victim.exited
        child = null
        await startAgain(restartMs)
      },
      async freeze(forMs) {
        frozenUntil = performance.now() + forMs
        const { pid } = child!
        signalIfAlive(pid, 'SIGSTOP')
        // Another process sends SIGCONT, because the frozen one must wake up to notice that this one was killed.
        const waker = spawn('sh', ['-c', 'sleep "$1"; kill -CONT "$2"', 'sh', String(forMs / 1000), String(pid)], {
          ...{ detached: true, stdio: 'ignore', cwd: '/' },
        })
        await new Promise(done => waker.once('exit', done).once('error', done))
      },
      async scrape() {
        const life = lives.at(-1)!
        if (!child || performance.now() < frozenUntil) return
        const answer = await fetch(`http://127.0.0.1:${port}/metrics`, { signal: AbortSignal.timeout(SCRAPE_MS) })
        const text = await answer.text()
        life.aboveReservation = [...text.matchAll(OVER_RESERVATION)].reduce((sum, [, value]) => sum + Number(value), 0)
      },
      async end() {
        killed = true
        child?.kill()
        await child?.exited
      },
    })
  }

  const open = async (role: Slot['role'], count: number) => {
    await Promise.all(Array.from({ length: count }, (_, index) => openSlot(role, index + 1)))
    slots.sort((a, b) => a.name.localeCompare(b.name))
  }
  await open('api', apis)
  // A process that is killed loses what it counted since the last scrape; the ledger has it too.
  const scrape = () => Promise.all(slots.map(slot => slot.scrape().catch(() => {})))
  const timer = setInterval(scrape, SCRAPE_MS)
  closers.push(() => clearInterval(timer))
  return {
    slots: slots as readonly Slot[],
    apis: slots.map(slot => slot.url),
    startWorkers: (count: number) => open('worker', count),
    deaths,
    scrape,
    /** kill -9 of all processes, without a restart. */
    async end() {
      closing.abort()
      await Promise.all(slots.map(slot => slot.end()))
    },
  }
}
