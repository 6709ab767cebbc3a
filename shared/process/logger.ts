import { type DestinationStream, pino } from 'pino'

export type Logger = pino.Logger

export type LoggerOptions = {
  level: string
  name: string
  /** Readable lines for a terminal instead of JSON. */
  pretty?: boolean
  /** Texts that are masked in every line: see `secretsOf`. */
  secrets?: readonly string[]
}

/** Logs JSON lines to stdout. Never log prompts, results, keys or secrets. */
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

const WITHHELD = '(withheld: the message may quote a request)'
const MAX_CHARACTERS = 500
const MAX_CAUSES = 4

/**
 * Describes an error by the fields that are listed here and no others. The errors of SDKs hold requests and responses with their
 * headers, those of Postgres hold rows, and those of ioredis hold the arguments of commands.
 */
export function describeError(error: unknown, depth = 0): Record<string, unknown> {
  if (!(error instanceof Error)) return { type: typeof error }
  const { code, cause } = error as { code?: unknown; cause?: unknown }
  const message = quotes(error) ? WITHHELD : error.message.slice(0, MAX_CHARACTERS)
  // The stack repeats the message, which may be withheld.
  const frames = error.stack?.split('\n').filter(line => /^ {4}at /.test(line)) ?? []
  return {
    type: error.constructor.name,
    message,
    ...((typeof code === 'string' || typeof code === 'number') && { code }),
    stack: [`${error.name}: ${message}`, ...frames].join('\n'),
    ...(cause !== undefined && depth < MAX_CAUSES && { cause: describeError(cause, depth + 1) }),
  }
}

/** pino takes the message of an error that is logged alone as the message of the line, without describeError. */
function withMessage(this: pino.Logger, args: Parameters<pino.LogFn>, method: pino.LogFn): void {
  const [first] = args as unknown[]
  const error = first instanceof Error ? first : (first as { err?: unknown } | null)?.err
  const alone = args.length === 1 && error instanceof Error
  if (!alone) method.apply(this, args)
  else method.call(this, first instanceof Error ? { err: first } : first, String(describeError(error).message))
}

/** Whether the message may quote data: errors of providers (`status`), of JSON.parse, and of class 22 (data exception) in Postgres do. */
function quotes(error: Error): boolean {
  const { status, severity, code } = error as { status?: unknown; severity?: unknown; code?: unknown }
  if (status !== undefined || error instanceof SyntaxError) return true
  return severity !== undefined && typeof code === 'string' && code.startsWith('22')
}

/** Shorter texts are not masked, because they might be ordinary words. */
const MIN_CHARACTERS = 8
/** Keys of clients, signing secrets and credentials, which are not in the settings. */
const KEYS = /\bsk-[\w-]{16,}|\bwhsec_[\w+/=]{16,}|\b(Bearer|Basic) [\w+/=.-]{16,}/g

/** The last safeguard, applied to whole lines. It costs about a microsecond per line. */
function createMask(secrets: readonly string[]): (line: string) => string {
  const known = [...new Set(secrets)]
    .filter(secret => secret.length >= MIN_CHARACTERS)
    .map(secret => JSON.stringify(secret).slice(1, -1))
    .toSorted((a, b) => b.length - a.length)
  return line => {
    let masked = line
    for (const secret of known) if (masked.includes(secret)) masked = masked.replaceAll(secret, '[secret]')
    return masked.replace(KEYS, '[secret]')
  }
}
