import { describe, expect, it } from 'vitest'
import { sharedAnswer, singleFlight } from './single-flight.ts'

function work() {
  const begun: PromiseWithResolvers<number>[] = []
  return {
    begun,
    run: () => {
      const one = Promise.withResolvers<number>()
      begun.push(one)
      return one.promise
    },
  }
}

describe('a shared answer', () => {
  it('is computed once for all callers while it runs and for a second after it', async () => {
    const { begun, run } = work()
    let time = 0
    const ask = sharedAnswer(run, 1000, () => time)
    const asked = [ask(), ask()]
    time = 60_000
    asked.push(ask())
    begun[0]!.resolve(1)
    expect(await Promise.all(asked)).toEqual([1, 1, 1])
    time += 999
    expect(await ask()).toBe(1)
    time += 1
    const next = ask()
    expect(begun).toHaveLength(2)
    begun[1]!.resolve(2)
    expect(await next).toBe(2)
  })

  it('is not computed again at once after a failure', async () => {
    const { begun, run } = work()
    let time = 0
    const ask = sharedAnswer(run, 1000, () => time)
    const first = ask()
    begun[0]!.reject(new Error('away'))
    await expect(first).rejects.toThrow('away')
    await expect(ask()).rejects.toThrow('away')
    time += 1000
    const next = ask()
    begun[1]!.resolve(2)
    expect(await next).toBe(2)
  })
})

it('a single flight does not start its work again while it runs, whether it succeeds or fails', async () => {
  const { begun, run } = work()
  const fly = singleFlight(run)
  const both = [fly(), fly()]
  expect(begun).toHaveLength(1)
  begun[0]!.reject(new Error('away'))
  await expect(both[0]).rejects.toThrow('away')
  await expect(both[1]).rejects.toThrow('away')
  const next = fly()
  begun[1]!.resolve(2)
  expect(await next).toBe(2)
})
