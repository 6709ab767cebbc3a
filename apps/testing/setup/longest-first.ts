import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** The test files that take longest, the longest first. */
const LONGEST = [
  'faults/batches.long',
  'faults/rolling.long',
  'faults/gate.long',
  'http/tracing.long',
  'local/postgres.long',
  'local/fleet-burst.long',
  'local/fleet.long',
  'faults/kill',
  'local/start',
  'moderation/fails-closed',
  'faults/clock',
  'faults/redis',
  'faults/redis-failover',
  'testing/gate-simulation',
  'db/model',
  'providers/conformance',
  'batches/routes',
].map(name => `/${name}.int.test.ts`)

/** Starts the longest files first, so that none of them runs alone at the end. Other files follow by size. */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files)
    const rank = (file: TestSpecification) => {
      const index = LONGEST.findIndex(name => file.moduleId.endsWith(name))
      return index < 0 ? LONGEST.length : index
    }
    return sorted.toSorted((a, b) => rank(a) - rank(b))
  }
}
