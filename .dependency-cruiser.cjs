// The dependency rules: which layer may know which, and which file owns which library.

const TESTS = [
  '[.]test[.]ts$',
  '^shared/testing/',
  '^apps/local/testing/',
  '^apps/local/faults/',
  '^apps/local/chaos/',
  '^apps/cli/testing/',
]

/** What every adapter is made with; the other files beside them are the adapters. */
const PROVIDER_PARTS = '^workers/providers/(define|failures|guard|rate-limits|transport)[.]ts$'

/** `library` may be imported only from files that match one of `owners`. */
const only = (name, library, owners) => ({
  name,
  severity: 'error',
  from: { pathNot: owners },
  // A worktree has its node_modules elsewhere, behind a symbolic link.
  to: { path: `(^|/)node_modules/(${library})/` },
})

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    { name: 'no-unresolved', severity: 'error', from: {}, to: { couldNotResolve: true } },
    { name: 'apps-not-workers', severity: 'error', from: { path: '^apps/' }, to: { path: '^workers/' } },
    { name: 'workers-not-apps', severity: 'error', from: { path: '^workers/' }, to: { path: '^apps/' } },
    {
      name: 'shared-not-apps-or-workers',
      severity: 'error',
      from: { path: '^shared/' },
      to: { path: '^(apps|workers)/' },
    },
    {
      name: 'provider-not-provider',
      severity: 'error',
      from: { path: '^workers/providers/', pathNot: ['^workers/providers/index[.]ts$', '[.]test[.]ts$'] },
      to: { path: '^workers/providers/', pathNot: PROVIDER_PARTS },
    },
    {
      name: 'testing-only-in-tests',
      severity: 'error',
      from: { pathNot: TESTS },
      to: { path: TESTS },
    },
    {
      // It is taken along alone, and both are shipped without the rest.
      name: 'client-stands-alone',
      severity: 'error',
      from: { path: '^apps/client/', pathNot: ['[.]test[.]ts$'] },
      to: { path: '.', pathNot: ['^apps/client/'], dependencyTypesNot: ['core'] },
    },
    {
      name: 'cli-knows-only-the-client',
      severity: 'error',
      from: { path: '^apps/cli/', pathNot: [...TESTS] },
      to: { path: '^(apps|workers|shared|bench)/', pathNot: ['^apps/(cli|client)/'] },
    },
    {
      // They are applications of Sluice's, as anybody's would be, and have only their frame in common.
      name: 'client-apps-know-only-the-client',
      severity: 'error',
      from: { path: '^apps/(comments|blog|client-app)/', pathNot: [...TESTS] },
      to: { path: '^(apps|workers|shared|bench)/', pathNot: ['^apps/($1|client|client-app)/'] },
    },
    {
      name: 'client-app-is-theirs',
      severity: 'error',
      from: { pathNot: ['^apps/(comments|blog|client-app)/'] },
      to: { path: '^apps/client-app/' },
    },
    only('bullmq-has-owners', 'bullmq', [
      '^shared/queue/',
      '^workers/consume[.]ts$',
      '^apps/api/plugins/queues[.]ts$',
      // Breaks it, for a test.
      '^apps/local/testing/starving[.]ts$',
    ]),
    // Client applications own their own schemas.
    only('sql-has-owners', '(pg|drizzle-orm|@types/pg)', [
      '^bench/',
      '^shared/db/',
      '^shared/testing/',
      '^apps/local/',
      '^apps/client-app/database[.]ts$',
    ]),
    only('ioredis-has-an-owner', 'ioredis', ['^shared/redis[.]ts$']),
    // 1.7 MB of wasm; and lists of words.
    only('sql-parser-has-an-owner', 'libpg-query', ['^shared/sql-guard/']),
    only('text-rules-have-an-owner', '(obscenity|libphonenumber-js)', ['^shared/text-rules/']),
    // Loaded by nobody who does not want traces: whoever imports `sdk.ts` otherwise than by need makes all pay for it.
    only('opentelemetry-has-an-owner', '@opentelemetry', ['^shared/tracing/sdk[.]ts$']),
    {
      name: 'tracing-sdk-is-loaded-by-need',
      severity: 'error',
      from: { pathNot: ['[.]test[.]ts$'] },
      to: { path: '^shared/tracing/sdk[.]ts$', dependencyTypesNot: ['dynamic-import'] },
    },
    // Loaded by nobody whose files are in Postgres.
    only('s3-has-an-owner', '@aws-sdk', ['^shared/files/s3[.]ts$']),
  ],
  options: {
    parser: 'swc',
    // Types between layers count too.
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(coverage|[.]data)/' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      importsFields: ['imports'],
      conditionNames: ['import', 'node', 'default', 'types'],
      extensions: ['.ts', '.mjs', '.js'],
    },
  },
}
