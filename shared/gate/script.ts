import { readFileSync } from 'node:fs'
import type { Redis } from '#shared/redis/connect.ts'
import { BREAKER } from './outcomes.ts'
import { type Target, targetName } from './target.ts'
import type { Arg } from './wire.ts'

/** One Lua chunk: declarations of a file are visible in the files after it. */
const FILES = ['state', 'window', 'wait-queue', 'breaker', 'acquire', 'report', 'main']

/**
 * Inlines constants: top-level lines such as `local SUB, call = 500, redis.call`. Every run of a script creates its
 * functions again, at a cost that grows with the variables that they share.
 */
export function inlineConstants(lua: string): string {
  const values = new Map<string, string>()
  const rest = lua.replace(/^local ([\w, ]+) = ([\w.[\], ]+?)(?: *--.*)?$/gm, (line, names: string, list: string) => {
    const [all, of] = [names.split(', '), list.split(', ')]
    if (all.length !== of.length || !of.every((value, index) => CONSTANT.test(`${all[index]} = ${value}`))) return line
    for (const [index, name] of all.entries()) values.set(name, of[index]!)
    return ''
  })
  return rest.replace(/(?<![\w.])[A-Za-z_]\w*/g, word => values.get(word) ?? word)
}
const CONSTANT = /^([A-Z_]+ = (\d+|KEYS\[\d\])|\w+ = (redis|math|cmsgpack)\.\w+)$/

/** For `keys` and `args` see state.lua. */
export type RunScript = (keys: string[], args: Arg[]) => Promise<unknown>

/** Defines the script on this connection. Redis gets its text once, then its hash. */
export function defineScript(redis: Redis): RunScript {
  const shared = Object.entries(BREAKER).map(([name, value]) => `local ${name} = ${value}`)
  const files = FILES.map(name => readFileSync(new URL(`./${name}.lua`, import.meta.url), 'utf8'))
  const lua = [...shared, ...files].join('\n')
  redis.defineCommand('sluiceGate', { numberOfKeys: 4, lua: inlineConstants(lua) })
  const commands = redis as Redis & { sluiceGate(...args: Arg[]): Promise<unknown> }
  return (keys, args) => commands.sluiceGate(...keys, ...args)
}

export function defineTargetsScript(redis: Redis): RunScript {
  const lua = readFileSync(new URL('./targets.lua', import.meta.url), 'utf8')
  redis.defineCommand('sluiceTargets', { numberOfKeys: 1, lua })
  const commands = redis as Redis & { sluiceTargets(...args: Arg[]): Promise<unknown> }
  return (keys, args) => commands.sluiceTargets(...keys, ...args)
}

/** All in one cluster slot. The names are those of stored states: do not rename them. */
export function keysOf(prefix: string, target: Target): string[] {
  const tag = `{${prefix}:gate:${encodeURIComponent(targetName(target))}}`
  return [`${tag}:state`, `${tag}:leases`, `${tag}:line`, `${tag}:sweep`]
}

/** In another cluster slot, so the gate's script never uses it. */
export const targetsKey = (prefix: string): string => `${prefix}:gate:called`
