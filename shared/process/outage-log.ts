import type { Logger } from './logger.ts'

export type OutageLog = {
  failed(error: unknown): void
  succeeded(): void
}

/**
 * Logs repeated work that fails during an outage: one line when the outage begins and one when it ends. Every other failure is
 * logged as an error.
 * @param isOutage by default every failure is one
 */
export function createOutageLog(
  logger: Logger,
  {
    failure,
    recovery,
    unexpected = failure,
    isOutage = () => true,
  }: { failure: string; recovery: string; unexpected?: string; isOutage?: (error: unknown) => boolean },
): OutageLog {
  let failing = false
  return {
    failed(error) {
      if (!isOutage(error)) return logger.error({ err: error }, unexpected)
      if (!failing) logger.warn({ err: error }, failure)
      failing = true
    },
    succeeded() {
      if (failing) logger.info(recovery)
      failing = false
    },
  }
}
