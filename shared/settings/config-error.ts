/** A setting is invalid. `message` is one line that names the setting. */
export class ConfigError extends Error {}

/** Parses a setting. @throws ConfigError that names the setting, if `parse` throws */
export function parseSetting<T>(name: string, parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    throw new ConfigError(`${name}: ${(error as Error).message}`)
  }
}
