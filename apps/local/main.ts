import { ConfigError, type ProviderConfig, parseConfig } from '#shared/config.ts'
import { NO_PROVIDER } from '#shared/models/providers.ts'
import { StartError } from './process.ts'
import { type Local, startLocal } from './start.ts'
import type { Supervised } from './supervise.ts'

/** One Ctrl-C arrives from the terminal, from npm and from bootstrap.mjs; a later one ends everything at once. */
const SAME_CTRL_C_MS = 500

const log = (line: string) => process.stderr.write(`sluice: ${line}\n`)
// A reader that is gone (`npm start | head`) must not end the servers.
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
    // A start in progress gives up and cleans up.
    local?.stop().then(() => process.exit(0))
  } else if (signal === 'SIGINT' && now - stopRequestedAt > SAME_CTRL_C_MS) {
    for (const one of started.toReversed()) one.kill()
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
    onStarted: one => started.push(one),
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
  if (local.demoMs > 0) announceDemo(local.demoMs)
} catch (error) {
  if (stopping.signal.aborted) process.exit(0)
  const known = error instanceof ConfigError || error instanceof StartError
  const line = known ? error.message : ((error as Error)?.stack ?? String(error))
  if (line) log(line)
  process.exit(1)
}

function announceDemo(ms: number) {
  const seconds = Math.round(ms / 1000)
  process.stdout.write(
    `  demo       for ${seconds} s, tasks of kind generate without a provider get an echo marked [demo]; then they fail with no_provider\n`,
  )
  process.stdout.write(`             ${NO_PROVIDER}\n`)
  setTimeout(() => log('the demo provider is off'), ms).unref()
}

/** The configured providers, and those that are used if they answer. */
function describeProviders(providers: ProviderConfig[]): string {
  const named = providers.filter(provider => provider.explicit).map(provider => provider.name)
  const detected = providers
    .filter(provider => !provider.explicit)
    .map(provider => `${provider.name} if it answers at ${provider.baseUrl}`)
  return [...(named.length > 0 ? named : ['none configured']), ...detected].join(', ')
}
