import type { Redis } from '#shared/redis/connect.ts'

type Arg = string | number

/**
 * All keys of a cache share one cluster slot, so that one script call serves many tasks. `order` and `sizes` are the index
 * of a bounded cache: entries by age, and their sizes.
 */
export const cacheKeys = (prefix: string) => {
  const base = `{${prefix}:cache}`
  return {
    entry: (key: Buffer) => `${base}:${key.toString('hex')}`,
    flight: (key: Buffer, coalesceGroup: string) => `${base}:flight:${key.toString('hex')}:${coalesceGroup}`,
    order: `${base}:order`,
    sizes: `${base}:sizes`,
  }
}

const NOW = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
`

/**
 * KEYS: entries. Returns Redis's time in ms and the stored entries: `<stored at>:<fresh until>:<JSON>`, both
 * in ms of Redis's clock.
 */
const READ = `${NOW} return { now, redis.call('MGET', unpack(KEYS)) }`

/**
 * KEYS: order, sizes, then entries; ARGV: bound in bytes (0: Redis bounds itself), then per entry its JSON, how long it is
 * fresh and how long it is stale after that, in ms. Beyond the bound, the oldest entries are deleted. An expired entry
 * stays in the index until then; OVERHEAD is the cost of an entry besides its text, index included.
 */
const STORE = `${NOW}
local bound = tonumber(ARGV[1])
local order, sizes, OVERHEAD, INDEX_SECONDS = KEYS[1], KEYS[2], 400, 7 * 86400
for i = 3, #KEYS do
  local at = (i - 3) * 3 + 2
  local fresh, stale = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local entry = string.format('%.0f:%.0f:', now, now + fresh) .. ARGV[at]
  redis.call('SET', KEYS[i], entry, 'PX', string.format('%.0f', fresh + stale))
  if bound > 0 then
    local size = #entry + OVERHEAD
    local before = tonumber(redis.call('HGET', sizes, KEYS[i])) or 0
    redis.call('HSET', sizes, KEYS[i], size)
    redis.call('ZADD', order, t[1] * 1000000 + t[2], KEYS[i])
    redis.call('HINCRBY', sizes, 'total', size - before)
  end
end
if bound > 0 then
  redis.call('EXPIRE', order, INDEX_SECONDS)
  redis.call('EXPIRE', sizes, INDEX_SECONDS)
  local total = tonumber(redis.call('HGET', sizes, 'total'))
  while total > bound do
    local oldest = redis.call('ZPOPMIN', order)[1]
    if not oldest then break end
    local size = tonumber(redis.call('HGET', sizes, oldest)) or 0
    redis.call('DEL', oldest)
    redis.call('HDEL', sizes, oldest)
    redis.call('HINCRBY', sizes, 'total', -size)
    total = total - size
  end
end
return 1
`

/**
 * KEYS per task: entry, flight; ARGV per task: task id, how long it may lead in ms, a leader that is known to have
 * ended ('': none), 1 if a fresh entry is accepted. Returns per task the entry, 1 if it leads, or a list with the leader.
 */
const LOOK_UP = `${NOW}
local answers = {}
for i = 1, #KEYS, 2 do
  local at = (i - 1) * 2 + 1
  local id = ARGV[at]
  local entry = ARGV[at + 3] == '1' and redis.call('GET', KEYS[i])
  if entry and now >= tonumber(string.match(entry, '^%d+:(%d+):') or 0) then entry = false end
  if entry then
    answers[#answers + 1] = entry
  else
    local leader = redis.call('GET', KEYS[i + 1])
    if not leader or leader == id or leader == ARGV[at + 2] then
      redis.call('SET', KEYS[i + 1], id, 'PX', ARGV[at + 1])
      answers[#answers + 1] = 1
    else
      answers[#answers + 1] = { leader }
    end
  end
end
return answers
`

/** KEYS: flights; ARGV: their leaders. Deletes the flights that these still lead. */
const RELEASE_LEAD = `
for i = 1, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[i] then redis.call('DEL', KEYS[i]) end
end
return 1
`

const SCRIPTS = {
  sluiceCacheRead: READ,
  sluiceCacheStore: STORE,
  sluiceCacheLookUp: LOOK_UP,
  sluiceCacheReleaseLead: RELEASE_LEAD,
}

/** Defines the scripts on this connection. Redis gets their text once, then their hashes. */
export function defineCacheScripts(redis: Redis) {
  for (const [name, lua] of Object.entries(SCRIPTS)) redis.defineCommand(name, { lua })
  const commands = redis as unknown as Record<keyof typeof SCRIPTS, (...args: Arg[]) => Promise<unknown>>
  const run = (name: keyof typeof SCRIPTS) => (keys: string[], args: Arg[]) =>
    commands[name](keys.length, ...keys, ...args)
  return {
    read: run('sluiceCacheRead'),
    store: run('sluiceCacheStore'),
    lookUp: run('sluiceCacheLookUp'),
    releaseLead: run('sluiceCacheReleaseLead'),
  }
}
