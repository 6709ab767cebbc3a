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

/** The commands and their options. It throws instead of ending the process. */
export function createProgram(commands: Commands, version: string): Command {
  const program = new Command('sluice')
    .description('The command line of Sluice, a job server for LLM calls.')
    .version(version)
    .exitOverride()
    .showSuggestionAfterError()
  const batch = program.command('batch').description('Have every line of a file answered.')

  const command = (name: string, description: string) =>
    batch
      .command(name)
      .description(description)
      .addOption(
        new Option('--url <url>', 'address of the server').env('SLUICE_URL').default(DEFAULT_URL).argParser(url),
      )
      .addOption(
        new Option('--key <key>', 'API key; without one, that of an `npm start` in this directory').env(
          'SLUICE_API_KEY',
        ),
      )
  const output = ['-o, --output <file>', 'where the answers go; errors go beside it, to <file>.errors.jsonl'] as const
  const noProgress = ['--no-progress', 'no bar and no lines on how far it is'] as const
  const json = ['--json', 'as the server gives it'] as const

  command('run', 'Start a batch (a file as OpenAI’s batch API takes it), wait for its end, fetch its answers.')
    .argument('<input>', 'JSONL, a request a line')
    .requiredOption(...output)
    .option('--endpoint <path>', 'what the lines ask', '/v1/chat/completions')
    .option('--max-cost-usd <dollars>', 'the most that the batch may cost', dollars)
    .option('--anew', 'start another one, even if one with this file is under way or was not fetched')
    .option(...noProgress)
    .addHelpText('after', EXIT_CODES)
    .action(commands.run)
  command('resume', 'Come back to a batch: wait for its end, fetch its answers.')
    .argument('<id>', 'batch_…')
    .requiredOption(...output)
    .option(...noProgress)
    .addHelpText('after', EXIT_CODES)
    .action(commands.resume)
  command('status', 'Say how far a batch is.')
    .argument('<id>', 'batch_…')
    .option(...json)
    .action(commands.status)
  command('cancel', 'Stop a batch. Answers that it has are kept.').argument('<id>', 'batch_…').action(commands.cancel)
  command('list', 'List batches, newest first.')
    .option('--limit <number>', 'how many, at most 100', limit, 20)
    .option(...json)
    .action(commands.list)
  return program
}

const EXIT_CODES = `
Exit codes: 0 all lines succeeded, 1 some did not, 2 the batch failed or could not be run, 130 Ctrl-C (it goes on).`

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
