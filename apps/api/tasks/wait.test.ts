import { expect, it } from 'vitest'
import { waitSeconds } from './wait.ts'

it.each([
  [undefined, 0],
  ['', 0],
  ['respond-async', 0],
  ['return=minimal', 0],
  ['wait=10', 10],
  ['respond-async, wait=10', 10],
  ['wait = "10"; handling=strict', 10],
  ['WAIT=0', 0],
  ['wait=3600', 60],
])('Prefer: %s waits %i seconds', (prefer, seconds) => expect(waitSeconds(prefer)).toBe(seconds))

it.each(['wait', 'wait=', 'wait=soon', 'wait=-1', 'wait=1.5', 'wait=10s', 'respond-async, wait=x'])(
  'Prefer: %s is refused, and the error names the header',
  prefer => expect(() => waitSeconds(prefer)).toThrow(/^Header `prefer` must give whole seconds/),
)
