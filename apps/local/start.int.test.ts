import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, realpathSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, expect, onTestFinished, test } from 'vitest'
import { temporaryDirectory } from '#apps/testing/setup/temporary.ts'

/** `npm start` as users run it, including the bootstrap. */
const bootstrap = join(import.meta.dirname, 'bootstrap.mjs')
const running = new Set<ChildProcess>()

afterEach(() => {
  for (const child of running) child.kill('SIGKILL')
})

type Started = {
  url: string
  pid: number
  get(path: string): Promise<Response>
  post(path: string, body: unknown): Promise<Response>
  stop(signal: NodeJS.Signals): Promise<number | null>
}

async function start(dir: string): Promise<Started> {
  const env = {
    PATH: process.env.PATH ?? '',
    DATA_DIR: dir,
    PORT: '0',
    WORKER_PORT: '0',
    LOG_LEVEL: 'warn',
    OLLAMA_HOST: 'http://127.0.0.1:9',
  }
  const child = spawn(process.execPath, [bootstrap, 'start'], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  running.add(child)
  const exited = once(child, 'exit').then(([code]) => {
    running.delete(child)
    return code as number | null
  })
  const url = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout! }).on('line', line => {
      const ready = /^ready (\S+)$/.exec(line)
      if (ready) resolve(ready[1]!)
    })
    void exited.then(code => reject(new Error(`exited with ${code} before it was ready`)))
  })
  const headers = {
    authorization: `Bearer ${readFileSync(join(dir, 'admin.key'), 'utf8').trim()}`,
    'content-type': 'application/json',
  }
  return {
    url,
    pid: child.pid!,
    get: path => fetch(url + path, { headers }),
    post: (path, body) =>
      fetch(url + path, { method: 'POST', headers: { ...headers, prefer: 'wait=20' }, body: JSON.stringify(body) }),
    stop(signal) {
      child.kill(signal)
      return exited
    },
  }
}

/** Every process whose command line or environment names this data directory or that of its Postgres. */
const processesOf = (dir: string): { pid: number; command: string }[] =>
  readdirSync('/proc')
    .filter(entry => /^\d+$/.test(entry) && Number(entry) !== process.pid)
    .flatMap(entry => {
      try {
        const command = readFileSync(`/proc/${entry}/cmdline`, 'utf8').replaceAll('\0', ' ')
        const environment = readFileSync(`/proc/${entry}/environ`, 'utf8')
        const ours = [dir, postgresHome(dir)].some(path => command.includes(path) || environment.includes(`=${path}\0`))
        return ours ? [{ pid: Number(entry), command }] : []
      } catch {
        return []
      }
    })

/** As root, it is not in `dir`. */
function postgresHome(dir: string): string {
  try {
    return realpathSync(join(dir, 'postgres'))
  } catch {
    return dir
  }
}

async function until<T>(check: () => T | Promise<T>): Promise<NonNullable<T>> {
  for (;;) {
    const found = await Promise.resolve(check()).catch(() => null)
    if (found) return found as NonNullable<T>
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

test('npm start serves, restarts processes, keeps its data and leaves no process behind', {
  timeout: 240_000,
}, async () => {
  const dir = temporaryDirectory()
  const before = processesOf(dir).length
  onTestFinished(() => rmSync(postgresHome(dir), { recursive: true, force: true }))
  const first = await start(dir)
  expect(statSync(join(dir, 'admin.key')).mode & 0o777).toBe(0o600)
  const answered = await first.post('/api/v1/tasks/summarize', { input: { text: 'Redis is fast. It forgets.' } })
  expect(answered.status).toBe(200)
  const task = (await answered.json()) as { task_id: string; source: string; quality: string }
  expect(task).toMatchObject({ status: 'succeeded', source: 'rules', quality: 'low' })

  for (const entry of ['workers/main.ts', 'apps/api/main.ts']) {
    const old = processesOf(dir).find(one => one.command.includes(entry))!
    process.kill(old.pid, 'SIGKILL')
    await until(() => processesOf(dir).find(one => one.command.includes(entry) && one.pid !== old.pid))
  }
  await until(async () => (await first.get('/health/ready')).ok)
  const again = await first.post('/api/v1/tasks/summarize', { input: { text: 'It was killed. It came back.' } })
  expect(((await again.json()) as { status: string }).status).toBe('succeeded')

  expect(await first.stop('SIGTERM')).toBe(0)
  expect(await until(() => processesOf(dir).length === before)).toBe(true)

  const second = await start(dir)
  const kept = await second.get(`/api/v1/tasks/${task.task_id}`)
  expect(await kept.json()).toMatchObject({ status: 'succeeded', source: 'rules' })
  expect(await second.stop('SIGINT')).toBe(0)
  expect(await until(() => processesOf(dir).length === before)).toBe(true)
})
