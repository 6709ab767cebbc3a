import { defineConfig } from 'vitest/config'
import { LongestFirst } from './apps/testing/setup/longest-first.ts'

const exclude = ['**/node_modules/**', '**/.data/**', 'dist/**']
const INTEGRATION = '**/*.int.test.ts'
const LONG = '**/*.long.int.test.ts'

export default defineConfig({
  test: {
    pool: 'forks',
    // Node runs the test files as it runs the sources: without Vite, whose transforms took longer than most tests.
    experimental: { viteModuleRunner: false, nodeLoader: false },
    // The files of a worker share its modules: a test that patches a global must restore it.
    isolate: false,
    restoreMocks: true,
    unstubEnvs: true,
    unstubGlobals: true,
    // More than the machine has cores: most integration tests wait for processes, leases and timers.
    maxWorkers: 5,
    sequence: { sequencer: LongestFirst },
    // How long something takes says nothing on a machine that others use, too.
    testTimeout: 120_000,
    maxConcurrency: 5,
    expect: { poll: { timeout: 60_000 } },
    projects: [
      {
        extends: true,
        test: { name: 'unit', include: ['**/*.test.ts'], exclude: [...exclude, INTEGRATION] },
      },
      {
        extends: true,
        test: {
          name: 'int',
          include: [INTEGRATION],
          exclude: [...exclude, LONG],
          globalSetup: ['apps/testing/setup/global-setup.ts'],
          hookTimeout: 180_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'long',
          include: [LONG],
          exclude,
          globalSetup: ['apps/testing/setup/global-setup.ts'],
          hookTimeout: 180_000,
        },
      },
    ],
  },
})
