import { Command, InvalidArgumentError, Option } from 'commander'

export type Connection = { url: string; key?: string }
export type Commands = {
  run(input: string, options: Connection & RunFlags): Promise<void>
  resume(id: string, options: Connection & { output: string; progress: boolean }): Promise<void>
  status(id: string, options: Connection & { json?: true }): Promise<void>
  cancel(id: string, options: Connection): Promise<void>
  list(options: Connection & { limit: number; json?: true }): Promise<void>
}
type RunFlags = { output: string; endpoint: string; maxCostUsd?: number; anew?: true; progress: boolean }

export const DEFAULT_URL = 'http://127.0.0.1:8080'

/** The commands and their options. Errors are thrown; the process does not exit. */
export function createProgram(commands: Commands, version: string): Command {
  const program = new Command('sluice')
    .description('Command line of Sluice, a job server for LLM calls.')
    .version(version)
    .exitOverride()
    .showSuggestionAfterError()
  const batch = program.command('batch').description('Run files of requests as batches.')

  const command = (name: string, description: string) =>
    batch
      .command(name)
      .description(description)
      .addOption(new Option('--url <url>', 'URL of the server').env('SLUICE_URL').default(DEFAULT_URL).argParser(url))
      .addOption(
        new Option('--key <key>', 'API key (default, for a server on this machine: the key in .data/admin.key)').env(
          'SLUICE_API_KEY',
        ),
      )
  const output = [
    '-o, --output <file>',
    'file for the answers; errors go to <file>.errors.jsonl. `-`: standard output, and errors to standard error',
  ] as const
  const noProgress = ['--no-progress', 'show no progress bar and no progress lines'] as const
  const json = ['--json', 'print the JSON of the server'] as const

  command('run', 'Start a batch from a file in the format of OpenAI’s batch API, wait for it and download the answers.')
    .argument('<input>', 'JSONL file with one request per line, plain or gzip; `-` reads standard input')
    .requiredOption(...output)
    .option('--endpoint <path>', 'endpoint of the lines', '/v1/chat/completions')
    .option('--max-cost-usd <dollars>', 'maximum cost of the batch', dollars)
    .option('--anew', 'start a new batch instead of resuming one with the same file')
    .option(...noProgress)
    .addHelpText('after', EXIT_CODES)
    .action(commands.run)
  command('resume', 'Wait for a batch and download the answers.')
    .argument('<id>', 'batch_…')
    .requiredOption(...output)
    .option(...noProgress)
    .addHelpText('after', EXIT_CODES)
    .action(commands.resume)
  command('status', 'Show the progress of a batch.')
    .argument('<id>', 'batch_…')
    .option(...json)
    .action(commands.status)
  command('cancel', 'Cancel a batch. Existing answers are kept.').argument('<id>', 'batch_…').action(commands.cancel)
  command('list', 'List batches, newest first.')
    .option('--limit <number>', 'number of batches, at most 100', limit, 20)
    .option(...json)
    .action(commands.list)
  return program
}

const EXIT_CODES = `
Exit codes: 0 every line succeeded, 1 some lines failed, 2 the batch failed or could not be run, 130 Ctrl-C (the batch
continues).`

function url(value: string): string {
  if (/^https?:\/\//i.test(value) && URL.canParse(value)) return value.replace(/\/+$/, '')
  throw new InvalidArgumentError('Not an http(s) URL.')
}

function dollars(value: string): number {
  const amount = value.trim() === '' ? Number.NaN : Number(value)
  if (Number.isFinite(amount) && amount > 0) return amount
  throw new InvalidArgumentError('Not an amount above 0.')
}

function limit(value: string): number {
  const count = Number(value)
  if (Number.isInteger(count) && count >= 1 && count <= 100) return count
  throw new InvalidArgumentError('Not a whole number from 1 to 100.')
}
