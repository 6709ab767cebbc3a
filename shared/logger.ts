import { pino } from 'pino'

export type Logger = pino.Logger

/** JSON lines on stdout; readable ones when a person is looking. Never log prompts, results, keys or secrets. */
export function createLogger(options: { level: string; name: string; pretty?: boolean }): Logger {
  return pino({
    level: options.level,
    base: { name: options.name, pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: label => ({ level: label }) },
    redact: ['req.headers.authorization', 'req.headers["x-api-key"]', 'req.headers.cookie'],
    ...(options.pretty && {
      transport: { target: 'pino-pretty', options: { ignore: 'pid', translateTime: 'HH:MM:ss' } },
    }),
  })
}
