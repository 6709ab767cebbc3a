import { describe, expect, it } from 'vitest'
import { createAdmission } from './admit.ts'

const CLAUDE = { provider: 'anthropic', model: 'claude' }

function harness() {
  const clock = { at: 0 }
  return { clock, admission: createAdmission(() => clock.at) }
}

describe('admission', () => {
  it('is granted while nothing is known against it', () => {
    expect(harness().admission.admit(CLAUDE)).toEqual({ kind: 'go' })
  })

  it('is refused for as long as the provider asked, and then granted', () => {
    const { admission, clock } = harness()
    admission.pause(CLAUDE, 1000)
    clock.at = 400
    expect(admission.admit(CLAUDE)).toEqual({ kind: 'closed', ms: 600 })
    clock.at = 1000
    expect(admission.admit(CLAUDE)).toEqual({ kind: 'go' })
  })

  it('is a matter of one model of one provider', () => {
    const { admission } = harness()
    admission.pause(CLAUDE, 1000)
    expect(admission.admit({ ...CLAUDE, model: 'other' })).toEqual({ kind: 'go' })
    expect(admission.admit({ ...CLAUDE, provider: 'other' })).toEqual({ kind: 'go' })
  })

  it('waits for the latest of several pauses', () => {
    const { admission } = harness()
    admission.pause(CLAUDE, 5000)
    admission.pause(CLAUDE, 1000)
    expect(admission.admit(CLAUDE)).toEqual({ kind: 'closed', ms: 5000 })
  })

  it('forgets pauses that are over, but none that is not, when clients name very many models', () => {
    const { admission, clock } = harness()
    admission.pause(CLAUDE, 5000)
    for (let n = 0; n < 2000; n++) admission.pause({ provider: 'p', model: String(n) }, 10)
    clock.at = 100
    for (let n = 0; n < 2000; n++) admission.pause({ provider: 'q', model: String(n) }, 10)
    expect(admission.admit(CLAUDE)).toEqual({ kind: 'closed', ms: 4900 })
  })
})
