import { describe, expect, it } from 'vitest'
import { parseConfig } from '#shared/config.ts'
import { ConfigError } from '#shared/settings/config-error.ts'
import { LIVENESS, parseLiveness } from './liveness.ts'

describe('liveness', () => {
  it('production uses these times', () => {
    expect(parseConfig({}).liveness).toEqual({
      beatMs: 2000,
      beatRetryMs: 250,
      beatTimeoutMs: 3000,
      unhealthyAfterMs: 6000,
      abortAfterMs: 8000,
      deadAfterMs: 10_000,
      lockIdleMs: 10_000,
      jobLockMs: 8000,
      stalledCheckMs: 4000,
    })
  })

  it('a worker that misses heartbeats starts nothing new, then stops its calls, and only then loses its claims', () => {
    const { beatMs, beatTimeoutMs, unhealthyAfterMs, abortAfterMs, deadAfterMs } = LIVENESS
    expect(beatMs + beatTimeoutMs).toBeLessThan(unhealthyAfterMs)
    expect(unhealthyAfterMs).toBeLessThan(abortAfterMs)
    expect(abortAfterMs).toBeLessThan(deadAfterMs)
  })

  it('LIVENESS_SCALE shortens all times alike', () => {
    const { liveness } = parseConfig({ LIVENESS_SCALE: '0.1' })
    for (const [name, ms] of Object.entries(LIVENESS)) expect(liveness[name as keyof typeof LIVENESS]).toBe(ms / 10)
  })

  it('LIVENESS_SCALE accepts no text, no time of zero and no longer time than production', () => {
    for (const scale of ['fast', '0', '-1', '0.01', '1.5', 'Infinity', 'NaN', '0.1s'])
      expect(() => parseLiveness(scale), scale).toThrow(ConfigError)
    for (const scale of [undefined, '', ' ', '1']) expect(parseLiveness(scale)).toEqual(LIVENESS)
  })
})
