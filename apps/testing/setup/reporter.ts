import type { Reporter, SerializedError, TestModule } from 'vitest/node'
import type { Counts } from '#apps/tools/check.ts'

/** Sends the counts of a run to check.ts over IPC. Without check.ts it does nothing. */
export default class CountingReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]) {
    const counts: Counts = { passed: 0, failed: unhandled.length }
    for (const module of modules) {
      // A file that fails to load, or a hook that throws, fails without a failed test.
      counts.failed += module.errors().length
      for (const suite of module.children.allSuites()) counts.failed += suite.errors().length
      for (const test of module.children.allTests()) {
        const { state } = test.result()
        if (state === 'passed') counts.passed++
        if (state === 'failed') counts.failed++
      }
    }
    process.send?.({ type: 'counts', ...counts })
  }
}
