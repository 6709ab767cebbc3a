import type { FastifyBaseLogger } from 'fastify'
import type { Static, TObject } from 'typebox'
import { createLog } from './log.ts'
import { type Application, type Service, startService } from './service.ts'
import { type CommonSettings, parseSettings, SettingsError } from './settings.ts'

const STOP_WITHIN_MS = 10_000
/** One Ctrl-C may reach us twice, from the terminal and from npm, which passes it on; only a later one means "at once". */
const SAME_CTRL_C_MS = 500

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
  stopOnSignal(process, service, log)
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

/** A later SIGINT exits at once: a person is waiting. Process managers repeat SIGTERM. */
export function stopOnSignal(
  face: Pick<NodeJS.Process, 'on' | 'exit'>,
  service: Pick<Service, 'stop'>,
  log: Pick<FastifyBaseLogger, 'info'>,
): void {
  let stoppedAt: number | null = null
  const stop = (reason: string) => {
    if (stoppedAt !== null) {
      if (reason === 'SIGINT' && performance.now() - stoppedAt > SAME_CTRL_C_MS) face.exit(1)
      return
    }
    stoppedAt = performance.now()
    log.info({ reason }, 'stopping')
    setTimeout(() => face.exit(1), STOP_WITHIN_MS).unref()
    void service.stop().then(() => face.exit(0))
  }
  for (const reason of ['SIGTERM', 'SIGINT', 'disconnect']) face.on(reason, () => stop(reason))
}
