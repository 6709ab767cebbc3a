import type { FastifyBaseLogger } from 'fastify'
import { createLog } from './log.ts'
import { type Service, startService } from './service.ts'
import { parseSettings, type Settings, SettingsError } from './settings.ts'

const STOP_WITHIN_MS = 10_000

function settingsOrExit(): Settings {
  try {
    return parseSettings(process.env)
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error
    process.stderr.write(`${error.message}\n`)
    process.exit(78)
  }
}

function stopOnSignal(service: Service, log: FastifyBaseLogger) {
  let stopping = false
  const stop = (reason: string) => {
    if (stopping) {
      if (reason !== 'disconnect') process.exit(1)
      return
    }
    stopping = true
    log.info({ reason }, 'stopping')
    setTimeout(() => process.exit(1), STOP_WITHIN_MS).unref()
    void service.stop().then(() => process.exit(0))
  }
  for (const reason of ['SIGTERM', 'SIGINT', 'disconnect']) process.on(reason, () => stop(reason))
}

const settings = settingsOrExit()
const log = createLog(settings.LOG_LEVEL)
const service = await startService(settings, log).catch((error: Error) => {
  log.fatal({ err: error }, 'cannot start')
  process.exit(1)
})
stopOnSignal(service, log)
// For a parent process that waits for it.
process.send?.({ type: 'ready', port: service.port })
