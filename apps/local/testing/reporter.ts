import type { Reporter, SerializedError, TestModule } from 'vitest/node'
import type { Counts } from '../check.ts'

/** Sends check.ts the true counts over the IPC channel that it opened; silent when vitest runs by itself. */
export default class CountingReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]) {
    const counts: Counts = { passed: 0, failed: unhandled.length }
    for (const module of modules) {
      // A file that fails to load, or a hook that throws, fails without any test that says so.
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
