// The dependency rules: which layer may import which, and which file owns which library.

const TESTS = ['[.]test[.]ts$', '^shared/testing/', '^apps/testing/', '^apps/cli/testing/']

/** The parts that adapters share; the other files of the folder are the adapters. */
const PROVIDER_PARTS =
  '^shared/providers/(anthropic-[a-z-]+|define|failures|guard|input-truncation|listing|ollama-[a-z-]+|openai-[a-z-]+|rate-limits|schemas/[a-z-]+|transport|upstream-model)[.]ts$'

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
      // The features use the database, not the other way round. The gate is a mechanism; these files hold its types and constants.
      name: 'db-imports-no-feature',
      severity: 'error',
      from: { path: '^shared/db/', pathNot: TESTS },
      to: {
        path: '^shared/',
        pathNot: [
          '^shared/(db|concurrency|process|json)/',
          '^shared/(errors|ids)[.]ts$',
          '^shared/settings/config-error[.]ts$',
          '^shared/models/(finish-reasons|tokens)[.]ts$',
          '^shared/gate/(outcomes|target|types)[.]ts$',
        ],
      },
    },
    {
      name: 'mechanisms-import-no-feature',
      severity: 'error',
      from: { path: '^shared/(concurrency|process|redis|metrics)/', pathNot: TESTS },
      to: {
        path: '^shared/',
        pathNot: ['^shared/(concurrency|process|redis|metrics|db)/', '^shared/settings/config-error[.]ts$'],
      },
    },
    {
      // It starts the features, so that none may depend on it.
      name: 'core-is-for-processes',
      severity: 'error',
      from: { pathNot: ['^shared/core/', '^apps/api/(server|live/start-lane)[.]ts$', '^workers/'] },
      to: { path: '^shared/core/' },
    },
    {
      name: 'provider-not-provider',
      severity: 'error',
      from: { path: '^shared/providers/', pathNot: ['^shared/providers/index[.]ts$', '[.]test[.]ts$'] },
      to: { path: '^shared/providers/', pathNot: PROVIDER_PARTS },
    },
    {
      name: 'testing-only-in-tests',
      severity: 'error',
      from: { pathNot: [...TESTS, '^bench/'] },
      to: { path: TESTS },
    },
    {
      // It is published as a package of its own, without the rest.
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
      // Applications of users have only the client.
      name: 'examples-use-only-the-client',
      severity: 'error',
      from: { path: '^apps/(comments|blog)/', pathNot: [...TESTS] },
      to: { path: '^(apps|workers|shared|bench)/', pathNot: ['^apps/($1|client)/'] },
    },
    only('bullmq-has-owners', 'bullmq', [
      '^shared/queue/',
      '^workers/consume[.]ts$',
      '^apps/api/operations/queue-dashboard[.]ts$',
      // A test breaks it on purpose.
      '^apps/testing/setup/starving[.]ts$',
    ]),
    // Example applications own their schemas.
    only('sql-has-owners', '(pg|drizzle-orm|@types/pg)', [
      '^bench/',
      '^shared/db/',
      '^shared/testing/',
      '^apps/local/',
      '^apps/testing/',
      '^apps/(blog|comments)/store[.]ts$',
    ]),
    only('provider-sdks-have-owners', '(openai|@anthropic-ai|ollama|google-auth-library)', [
      '^shared/providers/',
      '^workers/native/',
      '^bench/',
      ...TESTS,
    ]),
    only('ioredis-has-an-owner', 'ioredis', ['^shared/redis/']),
    // Both load slowly: 1.7 MB of WebAssembly, and word lists.
    only('sql-parser-has-an-owner', 'libpg-query', ['^shared/sql-guard/']),
    only('text-rules-have-an-owner', '(obscenity|libphonenumber-js)', ['^shared/text-rules/']),
    // Loaded only with tracing on: a static import of `sdk.ts` would make every process pay for it.
    only('opentelemetry-has-an-owner', '@opentelemetry', ['^shared/tracing/sdk[.]ts$']),
    {
      name: 'tracing-sdk-is-loaded-on-demand',
      severity: 'error',
      from: { pathNot: ['[.]test[.]ts$'] },
      to: { path: '^shared/tracing/sdk[.]ts$', dependencyTypesNot: ['dynamic-import'] },
    },
    // Loaded only if files are in S3.
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
