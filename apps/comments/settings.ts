import { Ajv } from 'ajv'
import { type Static, Type } from 'typebox'

const schema = Type.Object({
  DATABASE_URL: Type.String({ pattern: '^postgres(ql)?://' }),
  SLUICE_URL: Type.String({ pattern: '^https?://', default: 'http://127.0.0.1:8080' }),
  /** With the scopes `submit` and `read`. */
  SLUICE_API_KEY: Type.String(),
  /** Name of the policy to judge by; none: Sluice's default. */
  SLUICE_POLICY: Type.Optional(Type.String({ pattern: '^[a-z0-9][a-z0-9_-]{0,63}$' })),
  HOST: Type.String({ default: '127.0.0.1' }),
  PORT: Type.Integer({ minimum: 0, maximum: 65_535, default: 8090 }),
  LOG_LEVEL: Type.Enum(['debug', 'info', 'warn', 'error', 'silent'], { default: 'info' }),
})

export type Settings = Static<typeof schema>

export class SettingsError extends Error {}

const fits = new Ajv({ useDefaults: true, coerceTypes: true }).compile<Settings>(schema)

/** What is empty counts as not set. @throws SettingsError, with one line that names the setting */
export function parseSettings(env: Record<string, string | undefined>): Settings {
  const given = Object.keys(schema.properties).flatMap(name => (env[name] ? [[name, env[name]]] : []))
  const settings: unknown = Object.fromEntries(given)
  if (fits(settings)) return settings
  const { instancePath, keyword, message, params } = fits.errors![0]!
  if (keyword === 'required') throw new SettingsError(`${params.missingProperty}: is needed`)
  throw new SettingsError(`${instancePath.slice(1)}: ${message}`)
}
