import type { Logger } from '#shared/logger.ts'

const MOST_TEXTS = 100
const MOST_CHARACTERS = 300

/**
 * Puts into the log what libraries write to the console by themselves: a provider's SDK warns of an old model at every call.
 * Each text is said once, and without what it is said of.
 */
export function logConsole(logger: Logger, console: Pick<Console, 'warn' | 'error'> = globalThis.console): void {
  const said = new Set<string>()
  const say = (text: unknown) => {
    if (typeof text !== 'string') return
    const short = text.slice(0, MOST_CHARACTERS)
    if (said.has(short) || said.size === MOST_TEXTS) return
    said.add(short)
    logger.warn({ text: short }, 'a library wrote to the console')
  }
  console.warn = say
  console.error = say
}
