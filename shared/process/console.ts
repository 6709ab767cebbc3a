import type { Logger } from './logger.ts'

const MAX_TEXTS = 100
const MAX_CHARACTERS = 300

/**
 * Redirects to the log what libraries write to the console, such as the warning of an SDK about an old model at every call.
 * Logs each text once, and no other arguments, because they may quote a request.
 */
export function logConsole(logger: Logger, console: Pick<Console, 'warn' | 'error'> = globalThis.console): void {
  const logged = new Set<string>()
  const log = (text: unknown) => {
    if (typeof text !== 'string') return
    const short = text.slice(0, MAX_CHARACTERS)
    if (logged.has(short) || logged.size === MAX_TEXTS) return
    logged.add(short)
    logger.warn({ text: short }, 'a library wrote to the console')
  }
  console.warn = log
  console.error = log
}
