#!/usr/bin/env node
import { existsSync, readFileSync } from 'node:fs'
import { CommanderError } from 'commander'
import { pause } from '../client/http.ts'
import { createClient } from '../client/index.ts'
import { parseExactly } from './exact-json.ts'
import { CANNOT, explain, fileReason, Interrupted } from './failure.ts'
import { quoted } from './format.ts'
import { listText, statusText } from './format-batch.ts'
import { findKey } from './key.ts'
import { type Connection, createProgram, DEFAULT_URL } from './program.ts'
import { createProgress } from './progress.ts'
import { resume, run } from './run.ts'
import type { Session } from './session.ts'
import { stopSignal } from './signals.ts'

const stopping = stopSignal(process)

const say = (line: string) => void process.stderr.write(`${line}\n`)
// The answers are also fetched when the reader is gone (`2>&1 | head`) or the terminal is closed.
process.stderr.on('error', () => {})
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') return
  say(`sluice: the output cannot be written: ${fileReason(error) ?? error.message}`)
  process.exitCode = CANNOT
})
process.on('uncaughtException', error => {
  say(`sluice: ${error?.stack ?? error}`)
  process.exit(CANNOT)
})
const print = (text: string) => void process.stdout.write(text === '' ? '' : `${text}\n`)
const name = process.env.npm_command === 'exec' ? 'npx sluice' : 'sluice'

function open({ url, key }: Connection, shown = true): Session {
  const elsewhere = ![DEFAULT_URL, process.env.SLUICE_URL].includes(url)
  return {
    client: createClient({
      baseUrl: url,
      apiKey: findKey(key, url, process.cwd()),
      retries: 0,
      parseJson: parseExactly,
    }),
    progress: createProgress(process.stderr, { shown }),
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    signal: stopping,
    pause: ms => pause(ms, stopping),
    command: words => `${name} batch ${words}${elsewhere ? ` --url ${quoted(url)}` : ''}`,
  }
}

const program = createProgram(
  {
    async run(input, options) {
      process.exitCode = await run(open(options, options.progress), {
        input,
        output: options.output,
        endpoint: options.endpoint,
        maxCostUsd: options.maxCostUsd ?? null,
        anew: options.anew ?? false,
      })
    },
    async resume(id, options) {
      process.exitCode = await resume(open(options, options.progress), { id, output: options.output })
    },
    async status(id, options) {
      const { client, signal } = open(options)
      const batch = await client.batches.get(id, { signal })
      print(options.json ? JSON.stringify(batch, null, 2) : statusText(batch))
    },
    async cancel(id, options) {
      const { client, signal } = open(options)
      const { status } = await client.batches.cancel(id, { signal })
      print(`${id} is ${status}`)
    },
    async list(options) {
      const { client, signal } = open(options)
      const page = await client.batches.list({ limit: options.limit, signal })
      print(options.json ? JSON.stringify(page.data, null, 2) : listText(page.data))
    },
  },
  version(),
)

try {
  await program.parseAsync()
} catch (error) {
  process.exitCode = exitCodeOf(error)
}

function exitCodeOf(error: unknown): number {
  // Commander has printed the error; 0 after --help and --version.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : CANNOT
  if (error instanceof Interrupted) return error.exitCode
  say(`sluice: ${explain(error) ?? (error as Error).stack}`)
  return CANNOT
}

/** The version of the package that contains this file. */
function version(): string {
  let dir = new URL('.', import.meta.url)
  while (!existsSync(new URL('package.json', dir))) dir = new URL('..', dir)
  return (JSON.parse(readFileSync(new URL('package.json', dir), 'utf8')) as { version: string }).version
}
