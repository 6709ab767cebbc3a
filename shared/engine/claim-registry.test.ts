import { describe, expect, it } from 'vitest'
import { createClaimRegistry, type HeldClaim } from './claim-registry.ts'

const claim = (id: string, epoch = 0): HeldClaim => ({ id, epoch, controller: new AbortController() })

describe('the claim registry', () => {
  it('stops one claim with the reason', () => {
    const claimRegistry = createClaimRegistry()
    const [a, b] = [claim('a'), claim('b')]
    claimRegistry.add(a)
    claimRegistry.add(b)
    claimRegistry.stop('lost', { id: 'a' })
    expect(a.controller.signal.reason).toBe('lost')
    expect(b.controller.signal.aborted).toBe(false)
  })

  it('does not stop a claim for an earlier epoch of its task', () => {
    const claimRegistry = createClaimRegistry()
    const a = claim('a', 2)
    claimRegistry.add(a)
    claimRegistry.stop('lost', { id: 'a', epoch: 1 })
    expect(a.controller.signal.aborted).toBe(false)
    claimRegistry.stop('lost', { id: 'a', epoch: 2 })
    expect(a.controller.signal.reason).toBe('lost')
  })

  it('stops all claims', () => {
    const claimRegistry = createClaimRegistry()
    const claims = [claim('a'), claim('b')]
    claims.forEach(claimRegistry.add)
    claimRegistry.stop('drain')
    expect(claims.map(one => one.controller.signal.reason)).toEqual(['drain', 'drain'])
  })

  it('keeps the first reason', () => {
    const claimRegistry = createClaimRegistry()
    const a = claim('a')
    claimRegistry.add(a)
    claimRegistry.stop('deadline', { id: 'a' })
    claimRegistry.stop('drain')
    expect(a.controller.signal.reason).toBe('deadline')
  })

  it('lists claims until they are removed', () => {
    const claimRegistry = createClaimRegistry()
    claimRegistry.add(claim('a', 3))
    claimRegistry.add(claim('b'))
    claimRegistry.remove({ id: 'b', epoch: 0 })
    claimRegistry.remove({ id: 'never there', epoch: 0 })
    // Put away by an earlier run while the next one holds it already.
    claimRegistry.remove({ id: 'a', epoch: 2 })
    expect(claimRegistry.list().map(({ id, epoch }) => [id, epoch])).toEqual([['a', 3]])
    expect(claimRegistry.size).toBe(1)
    claimRegistry.stop('lost', { id: 'b' })
  })
})
