import { defineConfig } from 'vitest/config'

const exclude = ['**/node_modules/**', '**/.data/**', 'dist/**']

export default defineConfig({
  test: {
    pool: 'forks',
    // The integration tests' own Postgres, Redis and child processes want a core as well.
    maxWorkers: 2,
    // How long something takes says nothing on a machine that others use, too.
    testTimeout: 60_000,
    maxConcurrency: 3,
    expect: { poll: { timeout: 20_000 } },
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['**/*.test.ts'],
          exclude: [...exclude, '**/*.int.test.ts'],
        },
      },
      {
        extends: true,
        test: {
          name: 'int',
          include: ['**/*.int.test.ts'],
          exclude,
          globalSetup: ['apps/local/testing/global-setup.ts'],
          hookTimeout: 60_000,
        },
      },
    ],
  },
})
