import { type DestinationStream, pino } from 'pino'

export type Logger = pino.Logger

export type LoggerOptions = {
  level: string
  name: string
  /** For a person who is looking. */
  pretty?: boolean
  /** What must not get out, however it got in: see `secretsOf`. */
  secrets?: readonly string[]
}

/** JSON lines on stdout; readable ones when a person is looking. Never log prompts, results, keys or secrets. */
export function createLogger({ level, name, pretty, secrets = [] }: LoggerOptions, to?: DestinationStream): Logger {
  const options: pino.LoggerOptions = {
    level,
    base: { name, pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: label => ({ level: label }) },
    redact: ['req.headers.authorization', 'req.headers["x-api-key"]', 'req.headers.cookie'],
    serializers: { err: error => describeError(error) },
    hooks: { streamWrite: createMask(secrets), logMethod: withMessage },
    ...(pretty && {
      transport: { target: 'pino-pretty', options: { ignore: 'pid', translateTime: 'HH:MM:ss' } },
    }),
  }
  return to ? pino(options, to) : pino(options)
}

const WITHHELD = '(withheld: it may quote what was sent)'
const MOST_CHARACTERS = 500
const MOST_CAUSES = 4

/**
 * Of an error only what is listed here. SDKs hang requests and answers with their headers on theirs, Postgres whole rows,
 * ioredis the arguments of commands.
 */
export function describeError(error: unknown, depth = 0): Record<string, unknown> {
  if (!(error instanceof Error)) return { type: typeof error }
  const { code, cause } = error as { code?: unknown; cause?: unknown }
  const message = quotes(error) ? WITHHELD : error.message.slice(0, MOST_CHARACTERS)
  // The stack begins with the message.
  const frames = error.stack?.split('\n').filter(line => /^ {4}at /.test(line)) ?? []
  return {
    type: error.constructor.name,
    message,
    ...((typeof code === 'string' || typeof code === 'number') && { code }),
    stack: [`${error.name}: ${message}`, ...frames].join('\n'),
    ...(cause !== undefined && depth < MOST_CAUSES && { cause: describeError(cause, depth + 1) }),
  }
}

/** An error that is logged alone would be given its own message for that of the line. */
function withMessage(this: pino.Logger, args: Parameters<pino.LogFn>, method: pino.LogFn): void {
  const [first] = args as unknown[]
  const error = first instanceof Error ? first : (first as { err?: unknown } | null)?.err
  const alone = args.length === 1 && error instanceof Error
  if (!alone) method.apply(this, args)
  else method.call(this, first instanceof Error ? { err: first } : first, String(describeError(error).message))
}

/** Answers of providers (`status`), JSON.parse, and Postgres’s class 22 (data exception) say what they were given. */
function quotes(error: Error): boolean {
  const { status, severity, code } = error as { status?: unknown; severity?: unknown; code?: unknown }
  if (status !== undefined || error instanceof SyntaxError) return true
  return severity !== undefined && typeof code === 'string' && code.startsWith('22')
}

/** Shorter ones are no secrets but words, which would be missed. */
const LEAST_CHARACTERS = 8
/** Keys of clients, signing secrets and credentials, which no setting names. */
const KEYS = /\bsk-[\w-]{16,}|\bwhsec_[\w+/=]{16,}|\b(Bearer|Basic) [\w+/=.-]{16,}/g

/** The last net, over whole lines: it costs about a microsecond, and there are few lines. */
function createMask(secrets: readonly string[]): (line: string) => string {
  const known = [...new Set(secrets)]
    .filter(secret => secret.length >= LEAST_CHARACTERS)
    .map(secret => JSON.stringify(secret).slice(1, -1))
    .toSorted((a, b) => b.length - a.length)
  return line => {
    let masked = line
    for (const secret of known) if (masked.includes(secret)) masked = masked.replaceAll(secret, '[secret]')
    return masked.replace(KEYS, '[secret]')
  }
}
