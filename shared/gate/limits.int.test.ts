import { beforeEach, describe, expect, it } from 'vitest'
import { deleteLimits, NO_LIMITS, putLimits } from '#shared/db/provider-limits.ts'
import { createLogger } from '#shared/process/logger.ts'
import { ask, connect, fileDatabase } from '#shared/testing/postgres.ts'
import { createLimitsReader } from './limits.ts'
import { GateUnavailable } from './types.ts'

const database = fileDatabase()
const db = () => database.dbs[0]
const logger = createLogger({ level: 'silent', name: 'test' })
const rpm = (n: number | null) => ({ ...NO_LIMITS, rpm: n })
const small = { provider: 'anthropic', model: 'small' }
const large = { provider: 'anthropic', model: 'large' }

beforeEach(async () => {
  await ask(db(), 'TRUNCATE provider_limits')
})

async function reader(settings?: Record<string, number | null>) {
  const configured = Object.entries(settings ?? {}).map(([name, n]) => ({
    name,
    ...(n !== null && { limits: rpm(n) }),
  }))
  const limits = createLimitsReader({ db: db(), logger, ...(settings && { configured }) })
  await limits.stop()
  await limits.refresh()
  return limits
}
const put = (model: string, n: number | null) => putLimits(db(), 'anthropic', model, rpm(n))

describe('the limits of a target', () => {
  it('come from its model, else its provider, else the settings, else none', async () => {
    const limits = await reader({ anthropic: 1, ollama: null })
    const now = async () => {
      await limits.refresh()
      return [small, large].map(target => limits.of(target).rpm)
    }
    expect(await now()).toEqual([1, 1])
    expect(limits.of({ provider: 'ollama', model: 'm' })).toMatchObject(NO_LIMITS)
    expect(limits.of({ provider: 'openai', model: 'm' })).toEqual({ ...NO_LIMITS, version: 0 })
    await put('', 2)
    expect(await now()).toEqual([2, 2])
    await put('small', 3)
    expect(await now()).toEqual([3, 2])
    // Unlimited is a limit too: it hides the provider's.
    await put('small', null)
    expect(await now()).toEqual([null, 2])
    await deleteLimits(db(), 'anthropic', '')
    expect(await now()).toEqual([null, 1])
    await deleteLimits(db(), 'anthropic', 'small')
    expect(await now()).toEqual([1, 1])
    await deleteLimits(db(), 'anthropic', 'never set')
  })

  it('are the same for all names of a model; the newest wins', async () => {
    const dated = { provider: 'anthropic', model: 'claude-sonnet-5-5-20261001' }
    const base = { provider: 'anthropic', model: 'claude-sonnet-5-5' }
    const limits = await reader()
    const both = async () => {
      await limits.refresh()
      return [base, dated].map(target => limits.of(target).rpm)
    }
    await put(base.model, 5)
    expect(await both()).toEqual([5, 5])
    await put(dated.model, 6)
    expect(await both()).toEqual([6, 6])
    await put(base.model, 7)
    expect(await both()).toEqual([7, 7])
    expect(limits.of(dated)).toEqual(limits.of(base))
    await deleteLimits(db(), 'anthropic', base.model)
    expect(await both()).toEqual([null, null])
  })

  it('get a higher version with every change, removals included', async () => {
    const limits = await reader({ anthropic: 1 })
    let last = limits.of(small)
    for (const change of [
      () => put('small', 5),
      () => put('', 6),
      () => put('small', 7),
      () => deleteLimits(db(), 'anthropic', 'small'),
      () => deleteLimits(db(), 'anthropic', ''),
      () => put('small', 0),
    ]) {
      await change()
      await limits.refresh()
      const next = limits.of(small)
      expect(next.version).toBeGreaterThan(last.version)
      last = next
    }
    await put('small', 0)
    await limits.refresh()
    expect(limits.of(small)).toEqual(last)
  })

  it('of the settings reach processes without them, and the newest settings win', async () => {
    const [worker, api] = [await reader({ anthropic: 10 }), await reader()]
    expect(api.of(small)).toMatchObject({ rpm: 10 })
    const before = worker.of(small).version
    await reader({ anthropic: 10 })
    await worker.refresh()
    expect(worker.of(small)).toMatchObject({ rpm: 10, version: before })
    await reader({ anthropic: 20 })
    await worker.refresh()
    expect(worker.of(small)).toMatchObject({ rpm: 20 })
    expect(worker.of(small).version).toBeGreaterThan(before)
    await reader({ anthropic: null })
    await api.refresh()
    expect(api.of(small)).toMatchObject({ rpm: null })
  })

  it('are unavailable before the first read, and kept while Postgres is unavailable', async () => {
    const own = connect(database.url, 1)
    const limits = createLimitsReader({ db: own, logger })
    expect(() => limits.of(small)).toThrow(GateUnavailable)
    await put('', 4)
    await limits.stop()
    await limits.refresh()
    await own.close()
    await expect(limits.refresh()).rejects.toThrow()
    expect(limits.of(small)).toMatchObject({ rpm: 4 })
  })

  it('are reread periodically', async () => {
    const limits = createLimitsReader({ db: db(), logger })
    await limits.refresh()
    await put('', 9)
    await expect.poll(() => limits.of(small).rpm, { timeout: 5000 }).toBe(9)
    await limits.stop()
  })

  it('get versions in commit order, across rows', async () => {
    const slow = connect(database.url, 1)
    await ask(slow, 'BEGIN')
    await putLimits(slow, 'anthropic', '', rpm(1))
    const second = put('small', 2)
    await expect
      .poll(async () => {
        const text = `SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`
        return (await ask(db(), text)).length
      })
      .toBe(1)
    await ask(slow, 'COMMIT')
    await slow.close()
    await second
    const rows = await ask(db(), 'SELECT model FROM provider_limits ORDER BY version')
    expect(rows.map(row => row.model)).toEqual(['', 'small'])
  })
})
