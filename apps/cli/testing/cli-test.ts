import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'vitest'
import { type FakeSluice, KEY, startFakeSluice } from './fake-sluice.ts'
import { type SluiceOptions, sluice } from './sluice.ts'

export const RUN = ['run', 'in.jsonl', '-o', 'out.jsonl']
const POLL = /^GET \/api\/v1\/batches\//
export const isPoll = (call: string): boolean => POLL.test(call)

/** The output for these lines. */
export const answered = (...lines: string[]): string =>
  lines.map(line => `${JSON.stringify({ answered: line })}\n`).join('')

export type Cli = ReturnType<typeof createCli>

function createCli(fake: FakeSluice, dir: string) {
  const [cwd, tmp] = [join(dir, 'work'), join(dir, 'tmp')] as const
  mkdirSync(cwd)
  mkdirSync(tmp)
  const write = (name: string, bytes: string | Buffer) => writeFileSync(join(cwd, name), bytes)
  write('in.jsonl', 'one\ntwo\nthree\n')
  const running: ReturnType<typeof sluice>[] = []
  const env = (): Record<string, string> => ({
    SLUICE_API_KEY: KEY,
    SLUICE_URL: fake.url,
    TMPDIR: tmp,
  })
  /** `sluice` with these arguments and no other environment than `options` names. */
  function run(args: string[], options: Omit<SluiceOptions, 'cwd'> = {}) {
    const child = sluice(args, { cwd, ...options })
    running.push(child)
    return child
  }
  const begin = (args: string[], options: Omit<SluiceOptions, 'cwd'> = {}) =>
    run(['batch', ...args], { env: env(), ...options })
  const polls = () => fake.calls.filter(isPoll).length

  return {
    cwd,
    env,
    run,
    begin: (...args: string[]) => begin(args),
    batch: (...args: string[]) => begin(args).ended,
    /** `batch` with this on its standard input. */
    pipe: (stdin: Buffer | 'open', ...args: string[]) => begin(args, { stdin }),
    write,
    /** The names of the files in its directory. */
    files: () => readdirSync(cwd).toSorted(),
    /** The names of its temporary files. */
    temporary: () => readdirSync(tmp),
    read: (name: string) => readFileSync(join(cwd, name), 'utf8'),
    /** How often the server got this call, such as `POST /v1/files`. */
    count: (call: string) => fake.calls.filter(one => one === call).length,
    /** How often the server was asked about a batch. */
    polls,
    /** The batch of a run that was killed before its end. */
    async abandoned(...more: string[]) {
      fake.stepping = false
      const first = begin([...RUN, ...more])
      await fake.until(() => polls() > 0)
      first.kill('SIGKILL')
      await first.ended
      fake.stepping = true
      return fake.batches[0]!
    },
    killAll: () => running.forEach(child => void child.kill('SIGKILL')),
  }
}

/** A test that gets `fake`, a server in memory, and `cli`, the command line in a directory with `in.jsonl`, three lines. */
export const it = test.extend<{ fake: FakeSluice; cli: Cli }>({
  // biome-ignore lint/correctness/noEmptyPattern: vitest reads the names of a fixture's dependencies from its parameter.
  fake: async ({}, use) => {
    const fake = await startFakeSluice()
    await use(fake)
    await fake.stop()
  },
  cli: async ({ fake }, use) => {
    const dir = mkdtempSync(join(tmpdir(), 'sluice-cli-'))
    const cli = createCli(fake, dir)
    await use(cli)
    cli.killAll()
    rmSync(dir, { recursive: true, force: true })
  },
})
