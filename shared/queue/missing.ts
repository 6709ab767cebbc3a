import type { Redis } from '#shared/redis/connect.ts'
import { queuePrefix } from './names.ts'

/** Redis runs nothing else while the script reads a list of this length: a few milliseconds. Dispatches are bounded far below. */
const MAX_LIST = 20_000

/**
 * Returns the ids that are in none of a queue's collections, and deletes the hashes of these jobs: BullMQ adds no job whose
 * hash exists, and runs no job from a hash alone. A listed job needs no hash: its id is enough for a worker.
 * While a list is longer than the bound, the result is empty.
 * KEYS  sorted sets: prioritized, delayed; lists: wait, paused, active
 * ARGV  prefix of a job's hash, bound of a list, then the ids
 */
const MISSING = `
local candidates = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  if not redis.call('ZSCORE', KEYS[1], id) and not redis.call('ZSCORE', KEYS[2], id) then candidates[#candidates + 1] = id end
end
if #candidates == 0 then return {} end
local listed = {}
for k = 3, 5 do
  if redis.call('LLEN', KEYS[k]) > tonumber(ARGV[2]) then return {} end
  for _, id in ipairs(redis.call('LRANGE', KEYS[k], 0, -1)) do listed[id] = true end
end
local missing = {}
for _, id in ipairs(candidates) do
  if not listed[id] then
    redis.call('DEL', ARGV[1] .. id)
    missing[#missing + 1] = id
  end
end
return missing`

/** @returns a function that finds the jobs that a queue has lost, so that they can be added again */
export function defineMissing(redis: Redis, prefix: string): (queue: string, ids: string[]) => Promise<Set<string>> {
  redis.defineCommand('sluiceMissing', { numberOfKeys: 5, lua: MISSING })
  const commands = redis as Redis & { sluiceMissing(...args: (string | number)[]): Promise<string[]> }
  return async (queue, ids) => {
    const base = `${queuePrefix(prefix, queue)}:${queue}:`
    const keys = ['prioritized', 'delayed', 'wait', 'paused', 'active'].map(name => base + name)
    return new Set(await commands.sluiceMissing(...keys, base, MAX_LIST, ...ids))
  }
}
