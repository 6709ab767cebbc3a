import { Value } from 'typebox/value'
import { isNode, LineCounter, parseDocument } from 'yaml'
import type { PriceOverride } from '#shared/models/price-overrides.ts'
import { type Aliases, readAlias } from './aliases.ts'
import { DefinitionError, type ReadKey, readEndpoint } from './endpoint.ts'
import { type ProvidersFile, providersFile } from './endpoint-schema.ts'
import { escapePointer, firstFault, unescapePointer } from './first-fault.ts'
import type { ProviderConfig } from './providers.ts'

/** The contents of `PROVIDERS_FILE`. */
export type DeclaredProviders = {
  providers: ProviderConfig[]
  /** The definitions, as written. */
  definitions: NonNullable<ProvidersFile['providers']>
  prices: PriceOverride[]
  order: readonly string[]
  aliases: Aliases
}

export const NOTHING_DECLARED: DeclaredProviders = {
  providers: [],
  definitions: {},
  prices: [],
  order: [],
  aliases: new Map(),
}

/** `message` says what is wrong, after the line. */
export class ProvidersFileError extends Error {
  readonly line: number
  constructor(line: number, message: string) {
    super(message)
    this.line = line
  }
}

/**
 * Reads the text of a providers file, in YAML or JSON.
 * @throws ProvidersFileError with the line of the first fault
 */
export function parseProvidersFile(text: string, readKey: ReadKey): DeclaredProviders {
  const lines = new LineCounter()
  // JSON may be indented with tabs, which YAML forbids.
  const document = parseDocument(isJson(text) ? text.replaceAll('\t', ' ') : text, { lineCounter: lines })
  const lineAt = (offset: number) => lines.linePos(offset).line
  const [fault] = document.errors
  if (fault) throw new ProvidersFileError(lineAt(fault.pos[0]), fault.message.split(/ at line \d+/)[0]!)
  /** The line of the deepest part of the path that exists. */
  function lineOf(pointer: string): number {
    const path = pointer.split('/').slice(1).map(unescapePointer)
    for (let depth = path.length; depth > 0; depth--) {
      const parent = document.getIn(path.slice(0, depth - 1), true)
      const key = pairKey(parent, path[depth - 1]!)
      const node = key ?? document.getIn(path.slice(0, depth), true)
      if (isNode(node) && node.range) return lineAt(node.range[0])
    }
    return 1
  }
  const said: unknown = readValue(document)
  if (said === null) return NOTHING_DECLARED
  if (!Value.Check(providersFile, said)) {
    const { pointer, message } = firstFault(providersFile, said)
    throw new ProvidersFileError(lineOf(pointer), `${pointer || 'the file'} ${message}`)
  }
  const at = <T>(pointer: string, read: () => T): T => {
    try {
      return read()
    } catch (error) {
      if (!(error instanceof DefinitionError)) throw error
      const path = `${pointer}${error.path}`
      throw new ProvidersFileError(lineOf(path), `${path}: ${error.message}`)
    }
  }
  const definitions = said.providers ?? {}
  const endpoints = Object.entries(definitions).map(([name, definition]) =>
    at(`/providers/${name}`, () => readEndpoint(name, definition, readKey)),
  )
  const aliases = Object.entries(said.aliases ?? {}).map(
    ([name, entries]) => [name, at(`/aliases/${escapePointer(name)}`, () => readAlias(entries))] as const,
  )
  return {
    providers: endpoints.map(one => one.config),
    definitions,
    prices: endpoints.flatMap(one => one.prices),
    order: said.order ?? [],
    aliases: new Map(aliases),
  }
}

/** @throws ProvidersFileError if anchors expand to too much */
function readValue(document: ReturnType<typeof parseDocument>): unknown {
  try {
    return document.toJS()
  } catch (error) {
    throw new ProvidersFileError(1, (error as Error).message)
  }
}

function pairKey(parent: unknown, key: string): unknown {
  const { items } = Object(parent) as { items?: unknown }
  if (!Array.isArray(items)) return undefined
  return items.find(one => String(Object(one).key) === key)?.key
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}
