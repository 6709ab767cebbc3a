import type { FastifyBaseLogger } from 'fastify'
import type { Static, TObject } from 'typebox'
import { createLog } from './log.ts'
import { type Application, type Service, startService } from './service.ts'
import { type CommonSettings, parseSettings, SettingsError } from './settings.ts'

const STOP_WITHIN_MS = 10_000

/** A whole process: exits with 78 if a setting is wrong and with 1 if it cannot start; a signal ends it in good order. */
export async function runApplication<S extends TObject>(
  schema: S,
  application: Application<Static<S> & CommonSettings>,
  env: Record<string, string | undefined>,
): Promise<void> {
  const settings = settingsOrExit(schema, env) as Static<S> & CommonSettings
  const log = createLog(application.name, settings.LOG_LEVEL)
  const service = await startService(application, settings, log).catch((error: Error) => {
    log.fatal({ err: error }, 'cannot start')
    process.exit(1)
  })
  stopOnSignal(service, log)
  // For a parent process that waits for it.
  process.send?.({ type: 'ready', port: service.port })
}

function settingsOrExit<S extends TObject>(schema: S, env: Record<string, string | undefined>): Static<S> {
  try {
    return parseSettings(schema, env)
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
