import { DefinitionError } from './endpoint.ts'
import type { AliasDefinition } from './endpoint-schema.ts'

/** A model of an alias. `weight`: its share of the calls; absent: the order decides. */
export type AliasTarget = { provider: string; model: string; weight?: number }
/** The targets of every alias, by its name. */
export type Aliases = ReadonlyMap<string, readonly AliasTarget[]>

/** @throws DefinitionError */
export function readAlias(entries: AliasDefinition): AliasTarget[] {
  const targets = entries.map((entry, i): AliasTarget => {
    const name = typeof entry === 'string' ? entry : entry.model
    const [, provider, model] = /^([a-z][a-z0-9_-]{0,39})\/(.+)$/s.exec(name) ?? []
    if (!provider || !model) throw new DefinitionError(`/${i}`, `"${name}" is not "<provider>/<model>"`)
    return { provider, model, ...(typeof entry === 'object' && { weight: entry.weight }) }
  })
  const weighted = targets.filter(one => one.weight !== undefined)
  if (weighted.length > 0 && weighted.length < targets.length)
    throw new DefinitionError('', 'must give a weight to every model, or to none')
  if (weighted.length > 0 && weighted.every(one => one.weight === 0))
    throw new DefinitionError('', 'must give a weight above 0 to one model')
  return targets
}
