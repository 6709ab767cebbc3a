import { describe, expect, it } from 'vitest'
import { createHeld, type HeldClaim } from './held.ts'

const claim = (id: string, epoch = 0): HeldClaim => ({ id, epoch, controller: new AbortController() })

describe('the claims that a process holds', () => {
  it('are stopped one by one, with the reason', () => {
    const held = createHeld()
    const [a, b] = [claim('a'), claim('b')]
    held.add(a)
    held.add(b)
    held.stop('lost', { id: 'a' })
    expect(a.controller.signal.reason).toBe('lost')
    expect(b.controller.signal.aborted).toBe(false)
  })

  it('are not stopped by what is said of an earlier claim of the same task', () => {
    const held = createHeld()
    const a = claim('a', 2)
    held.add(a)
    held.stop('lost', { id: 'a', epoch: 1 })
    expect(a.controller.signal.aborted).toBe(false)
    held.stop('lost', { id: 'a', epoch: 2 })
    expect(a.controller.signal.reason).toBe('lost')
  })

  it('are stopped together', () => {
    const held = createHeld()
    const claims = [claim('a'), claim('b')]
    claims.forEach(held.add)
    held.stop('drain')
    expect(claims.map(one => one.controller.signal.reason)).toEqual(['drain', 'drain'])
  })

  it('keep the first reason', () => {
    const held = createHeld()
    const a = claim('a')
    held.add(a)
    held.stop('deadline', { id: 'a' })
    held.stop('drain')
    expect(a.controller.signal.reason).toBe('deadline')
  })

  it('are listed until they are given up', () => {
    const held = createHeld()
    held.add(claim('a', 3))
    held.add(claim('b'))
    held.remove({ id: 'b', epoch: 0 })
    held.remove({ id: 'never there', epoch: 0 })
    // Put away by an earlier run while the next one holds it already.
    held.remove({ id: 'a', epoch: 2 })
    expect(held.list().map(({ id, epoch }) => [id, epoch])).toEqual([['a', 3]])
    expect(held.size).toBe(1)
    held.stop('lost', { id: 'b' })
  })
})
