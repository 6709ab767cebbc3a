import { ConfigError, parseConfig, secretsOf } from '#shared/config.ts'
import { keepHeapSmall } from '#shared/process/heap.ts'
import { announceReady, runUntilSignal } from '#shared/process/lifecycle.ts'
import { createLogger } from '#shared/process/logger.ts'
import { countReplaced } from '#shared/process/parent-ipc.ts'
import { startApi } from './server.ts'

keepHeapSmall()
try {
  const config = parseConfig(process.env)
  const logger = createLogger({
    level: config.LOG_LEVEL,
    name: 'api',
    pretty: process.stdout.isTTY,
    secrets: secretsOf(config),
  })
  const { lifecycle, port, metrics } = await startApi({ config, logger })
  countReplaced(process, metrics)
  runUntilSignal(process, lifecycle, logger, (config.DRAIN_SECONDS + 8) * 1000)
  announceReady(process, port)
} catch (error) {
  if (!(error instanceof ConfigError)) throw error
  process.stderr.write(`${error.message}\n`)
  process.exit(78)
}
