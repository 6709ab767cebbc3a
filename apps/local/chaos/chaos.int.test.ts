import { expect, test } from 'vitest'
import { runChaos } from './run.ts'

test('a short run with each sort of fault loses nothing, finishes nothing twice and overruns nothing', {
  timeout: 300_000,
}, async () => {
  const { rows, evidence, faults } = await runChaos({ seed: 7, faults: 8, tasks: 300, seconds: 20 })
  expect(faults).toHaveLength(8)
  expect({ wrong: rows.filter(row => !row.ok), evidence }).toEqual({ wrong: [], evidence: {} })
  const accepted = rows.find(row => row.what.startsWith('accepted'))
  // As many of the 300 as this machine takes in the time.
  expect(accepted?.value).toBeGreaterThan(30)
})
