import { type Config, ConfigError } from '#shared/config.ts'
import type { Db } from '#shared/db/pool.ts'
import { type ProviderRow, readProviderDefinitions } from '#shared/db/provider-definitions.ts'
import type { Metrics } from '#shared/metrics/metrics.ts'
import { declareEndpoints } from '#shared/models/declared.ts'
import { repeatEvery } from '#shared/process/lifecycle.ts'
import type { Logger } from '#shared/process/logger.ts'
import { checkDefinition, DefinitionError, type Endpoint, readEndpoint } from '#shared/settings/endpoint.ts'
import { mergeProviders, type ProviderRegistry, type ProviderSettings } from '#shared/settings/merge.ts'
import {
  type DeclaredProviders,
  NOTHING_DECLARED,
  ProvidersFileError,
  parseProvidersFile,
} from '#shared/settings/providers-file.ts'
import { followFile, readBounded } from './follow-file.ts'

const POLL_MS = 1000

/**
 * Reads the providers of all sources, and follows their changes. A file that becomes invalid is reported, and its last valid contents
 * stay in effect.
 * @throws ConfigError if the file is invalid now
 */
export async function startProviderRegistry(deps: {
  config: Config
  db: Db
  metrics: Pick<Metrics, 'providerConfigLoads'>
  logger: Logger
}): Promise<ProviderRegistry> {
  const { config, db, metrics, logger } = deps
  const path = config.PROVIDERS_FILE
  const listeners: ((settings: ProviderSettings) => void)[] = []
  let file: DeclaredProviders = NOTHING_DECLARED
  let api: Endpoint[] = []
  let rows: ProviderRow[] = []
  let newest = 0
  let settings = mergeProviders(config, file, api)
  const stops: (() => Promise<void>)[] = []

  function publish(): void {
    settings = mergeProviders(config, file, api)
    declareEndpoints(settings.providers)
    for (const listener of listeners) listener(settings)
  }

  const count = (source: 'file' | 'api', result: 'applied' | 'rejected') =>
    metrics.providerConfigLoads.inc({ source, result })

  function applyFile(text: string): void {
    try {
      file = parseProvidersFile(text, config.readKey)
    } catch (error) {
      if (!(error instanceof ProvidersFileError)) throw error
      count('file', 'rejected')
      logger.error(
        { path, line: error.line },
        `PROVIDERS_FILE is invalid and was not applied: ${describe(path!, error)}`,
      )
      return
    }
    count('file', 'applied')
    publish()
    logger.info({ path, providers: file.providers.map(one => one.name) }, 'PROVIDERS_FILE was applied')
  }

  /** A definition that this process cannot use, such as one whose key it does not have, leaves the others in effect. */
  function readRow({ name, definition }: ProviderRow): Endpoint[] {
    if (definition === null) return []
    try {
      return [readEndpoint(name, checkDefinition(definition), config.readKey)]
    } catch (error) {
      if (!(error instanceof DefinitionError)) throw error
      count('api', 'rejected')
      logger.error({ provider: name }, `the definition of a provider cannot be used: ${error.path} ${error.message}`)
      return []
    }
  }

  async function refresh(): Promise<void> {
    const read = await readProviderDefinitions(db)
    // Rows are never removed: of two concurrent reads, the one with the lower version is the older.
    const version = Math.max(0, ...read.map(row => row.version))
    if (version <= newest) return
    newest = version
    rows = read
    api = read.flatMap(readRow)
    count('api', 'applied')
    publish()
  }

  if (path !== undefined) {
    const text = await readBounded(path).catch(error => {
      throw new ConfigError(`PROVIDERS_FILE: ${(error as Error).message}`)
    })
    try {
      file = parseProvidersFile(text, config.readKey)
    } catch (error) {
      if (!(error instanceof ProvidersFileError)) throw error
      throw new ConfigError(`PROVIDERS_FILE: ${describe(path, error)}`)
    }
    const stop = followFile({
      path,
      initial: text,
      apply: applyFile,
      fail: error => {
        count('file', 'rejected')
        logger.error({ err: error, path }, 'PROVIDERS_FILE cannot be read; its last contents stay in effect')
      },
    })
    stops.push(stop)
  }
  await refresh()
  publish()
  stops.push(repeatEvery(POLL_MS, refresh, error => logger.debug({ err: error }, 'definitions of providers not read')))

  return {
    current: () => settings,
    definition(name) {
      const source = settings.sources.get(name)
      if (source === 'api') return rows.find(row => row.name === name)?.definition as object
      return source === 'file' ? (file.definitions[name] ?? null) : null
    },
    onChange: listener => void listeners.push(listener),
    refresh,
    async stop() {
      for (const stop of stops) await stop()
    },
  }
}

const describe = (path: string, { line, message }: ProvidersFileError) => `${path}:${line}: ${message}`
