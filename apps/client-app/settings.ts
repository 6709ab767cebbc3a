import { Ajv } from 'ajv'
import { type Static, type TObject, Type } from 'typebox'

/** What each of the applications is told. */
export const settingsAt = (port: number) => ({
  DATABASE_URL: Type.String({ pattern: '^postgres(ql)?://' }),
  SLUICE_URL: Type.String({ pattern: '^https?://', default: 'http://127.0.0.1:8080' }),
  /** With the scopes `submit` and `read`. */
  SLUICE_API_KEY: Type.String(),
  HOST: Type.String({ default: '127.0.0.1' }),
  PORT: Type.Integer({ minimum: 0, maximum: 65_535, default: port }),
  LOG_LEVEL: Type.Enum(['debug', 'info', 'warn', 'error', 'silent'], { default: 'info' }),
})

const common = Type.Object(settingsAt(0))
export type CommonSettings = Static<typeof common>

export class SettingsError extends Error {}

/** What is empty counts as not set. @throws SettingsError, with one line that names the setting */
export function parseSettings<S extends TObject>(schema: S, env: Record<string, string | undefined>): Static<S> {
  const given = Object.keys(schema.properties).flatMap(name => (env[name] ? [[name, env[name]]] : []))
  const settings: unknown = Object.fromEntries(given)
  const fits = new Ajv({ useDefaults: true, coerceTypes: true }).compile<Static<S>>(schema)
  if (fits(settings)) return settings
  const { instancePath, keyword, message, params } = fits.errors![0]!
  if (keyword === 'required') throw new SettingsError(`${params.missingProperty}: is needed`)
  throw new SettingsError(`${instancePath.slice(1)}: ${message}`)
}
