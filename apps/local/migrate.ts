import { ConfigError, parseConfig } from '#shared/config.ts'
import { migrate } from '#shared/db/migrate.ts'

try {
  const { DATABASE_URL } = parseConfig(process.env)
  if (!DATABASE_URL) throw new ConfigError('DATABASE_URL is not set; `npm start` migrates its own Postgres by itself')
  await migrate(DATABASE_URL)
  process.stdout.write('the database has the newest schema\n')
} catch (error) {
  // Errors of pg and drizzle end in a stack, or in the whole statement; what went wrong is in the first line of the cause.
  const { message, cause } = error as Error & { cause?: Error }
  process.stderr.write(`sluice: ${(cause?.message || message || String(error)).split('\n')[0]}\n`)
  process.exitCode = 1
}
