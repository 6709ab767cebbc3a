import { ConfigError, parseConfig } from '#shared/config.ts'
import { migrate } from '#shared/db/migrate.ts'
import { reasonOf } from './process.ts'

try {
  const { DATABASE_URL } = parseConfig(process.env)
  if (!DATABASE_URL) throw new ConfigError('DATABASE_URL: is not set (`npm start` migrates its own Postgres)')
  await migrate(DATABASE_URL)
  process.stdout.write('the database has the current schema\n')
} catch (error) {
  process.stderr.write(`sluice: ${reasonOf(error)}\n`)
  process.exitCode = 1
}
