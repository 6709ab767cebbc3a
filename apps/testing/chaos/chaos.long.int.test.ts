import { expect, test } from 'vitest'
import { runChaos } from './run.ts'

test('a short run with every kind of fault loses no task, finishes none twice and exceeds no limit', {
  timeout: 300_000,
}, async () => {
  const { rows, evidence, faults } = await runChaos({ seed: 7, faults: 11, tasks: 300, seconds: 20 })
  expect(faults).toHaveLength(11)
  expect({ wrong: rows.filter(row => !row.ok), evidence }).toEqual({ wrong: [], evidence: {} })
  const accepted = rows.find(row => row.what.startsWith('accepted'))
  // A slow machine accepts few of the 300 tasks in the time.
  expect(accepted?.value).toBeGreaterThan(30)
})
