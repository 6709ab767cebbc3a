import { ConfigError, type ProviderConfig, parseConfig } from '#shared/config.ts'
import { StartError } from './process.ts'
import { type Local, startLocal } from './start.ts'
import type { Supervised } from './supervise.ts'

/** One Ctrl-C reaches us from the terminal, from npm and from bootstrap.mjs; only a later one means "at once". */
const SAME_CTRL_C_MS = 500

const log = (line: string) => process.stderr.write(`sluice: ${line}\n`)
// A reader that went away (`npm start | head`) is no reason to take everything down.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})

const started: Pick<Supervised, 'kill'>[] = []
const stopping = new AbortController()
let local: Local | null = null
let stopRequestedAt = 0

function onSignal(signal: NodeJS.Signals | 'disconnect') {
  const now = performance.now()
  if (!stopRequestedAt) {
    stopRequestedAt = now
    log('stopping; Ctrl-C again to kill')
    stopping.abort()
    // A start that is under way gives up and cleans up after itself.
    local?.stop().then(() => process.exit(0))
  } else if (signal === 'SIGINT' && now - stopRequestedAt > SAME_CTRL_C_MS) {
    for (const thing of started.toReversed()) thing.kill()
    process.exit(130)
  }
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal)
if (process.channel) {
  process.on('disconnect', () => onSignal('disconnect'))
  process.channel.unref()
}

try {
  const config = parseConfig(process.env)
  local = await startLocal({
    config,
    env: process.env,
    log,
    signal: stopping.signal,
    onStarted: thing => started.push(thing),
  })
  if (stopping.signal.aborted) {
    await local.stop()
    process.exit(0)
  }
  process.stdout.write(`ready ${local.url}\n`)
  process.stdout.write(
    local.adminKeyFile ? `  admin key  in ${local.adminKeyFile}\n` : '  admin key  as set by ADMIN_KEY\n',
  )
  process.stdout.write(`  dashboard  ${local.url}/queues\n`)
  process.stdout.write(`  providers  ${describeProviders(config.providers)}\n`)
} catch (error) {
  if (stopping.signal.aborted) process.exit(0)
  const known = error instanceof ConfigError || error instanceof StartError
  const line = known ? error.message : ((error as Error)?.stack ?? String(error))
  if (line) log(line)
  process.exit(1)
}

/** Those that the operator named, and those that are used if they turn out to be there. */
function describeProviders(providers: ProviderConfig[]): string {
  const named = providers.filter(provider => provider.explicit).map(provider => provider.name)
  const perhaps = providers
    .filter(provider => !provider.explicit)
    .map(provider => `${provider.name} if it answers at ${provider.baseUrl}`)
  return [...(named.length > 0 ? named : ['none configured']), ...perhaps].join(', ')
}
