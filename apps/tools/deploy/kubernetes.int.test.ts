import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { parseManifests } from './manifests.ts'
import { fieldProblems, schemaProblems } from './models.ts'
import { type Documented, referenceProblems } from './references.ts'
import { hashIn, inputsHash, RENDERED, render } from './render.ts'
import { watcherProblems } from './watchers.ts'
import { workloadProblems } from './workloads.ts'

const ROOT = join(import.meta.dirname, '../../..')
const text = readFileSync(RENDERED, 'utf8')
const manifests = parseManifests(text)

/** The secrets that docs/deploy.md creates, with their keys. */
const docs = readFileSync(join(ROOT, 'docs/deploy.md'), 'utf8').replaceAll('\\\n', ' ')
const secrets = new Map(
  [...docs.matchAll(/create secret generic (\S+)(.*)$/gm)].map(([, name, rest]) => [
    name!,
    [...rest!.matchAll(/--from-literal=(\w+)=/g)].map(([, key]) => key!),
  ]),
)
const documented: Documented = (secret, key) =>
  key === null ? secrets.has(secret) : !!secrets.get(secret)?.includes(key)

const everything = async (of = manifests) => [
  ...(await schemaProblems(of)),
  ...(await fieldProblems(of)),
  ...workloadProblems(of),
  ...referenceProblems(of, documented),
  ...watcherProblems(of),
]

test('deploy/example.yaml is the rendering of deploy/ (otherwise: npm run render)', () => {
  expect(hashIn(text)).toBe(inputsHash())
})

const fresh = await render()
test.runIf(fresh !== null)('kustomize, where it is on PATH, renders the same today', () => {
  expect(parseManifests(fresh!)).toEqual(manifests)
})

test('the manifests match the models of Kubernetes, KEDA and the Prometheus operator and have no dangling references', async () => {
  expect(await everything()).toEqual([])
})

// Each is an error that a cluster would accept silently, or report too late.
const PLANTED: [name: string, from: string | RegExp, to: string, problem: RegExp][] = [
  ['a port that is not a number', 'containerPort: 8080', 'containerPort: eighty', /containerPort must be integer/],
  ['a field that is misspelt', 'readinessProbe:', 'readinesProbe:', /"readinesProbe".* does not exist/],
  ['an unknown value of a field', 'type: RuntimeDefault', 'type: Runtime', /"Runtime"/],
  ['a trigger without its field', 'type: metrics-api', 'kind: metrics-api', /type/],
  ['a container that may be root', 'runAsNonRoot: true', 'runAsNonRoot: false', /may run as root/],
  ['a file system that is open', 'readOnlyRootFilesystem: true', 'readOnlyRootFilesystem: false', /may write/],
  ['a privilege that is kept', '- ALL', '- NET_RAW', /keeps capabilities/],
  ['an image without a version', 'sluice:0.1.0', 'sluice:latest', /image without a version/],
  ['a program that is not there', 'workers/main.ts', 'workers/worker-main.ts', /none|not run one of our programs/],
  [
    'a drain that is cut short',
    'terminationGracePeriodSeconds: 45',
    'terminationGracePeriodSeconds: 30',
    /before it has drained/,
  ],
  ['a probe of no path', 'path: /health/live', 'path: /healthz', /no such path/],
  ['a probe of no port', /port: status\n(\s+)periodS/, 'port: http\n$1periodS', /no such port http/],
  ['an unknown setting in a ConfigMap', 'DB_POOL:', 'DB_POOLS:', /DB_POOLS is unknown/],
  ['a setting that cannot be used', 'DB_POOL: "10"', 'DB_POOL: ten', /settings: DB_POOL/],
  ['a queue without workers', 'default,moderate', 'default', /no pool serves the queue moderate/],
  [
    'a selector that selects nothing',
    /matchLabels:\n(\s+)app.kubernetes.io\/name: sluice-api/,
    'matchLabels:\n$1app.kubernetes.io/name: api',
    /its selector selects/,
  ],
  [
    'a Service without pods',
    /selector:\n {4}app.kubernetes.io\/name: sluice-api/,
    'selector:\n    app.kubernetes.io/name: api',
    /pods of one workload/,
  ],
  [
    'a scaler without a target',
    /scaleTargetRef:\n {4}name: sluice-batch-worker/,
    'scaleTargetRef:\n    name: batch',
    /no Deployment batch/,
  ],
  ['a number of pods that its scaler sets, too', 'revisionHistoryLimit: 3', 'replicas: 3', /sets replicas/],
  ['an address in another namespace', 'sluice-production.svc', 'sluice.svc', /no Service answers at/],
  ['a queue of another pool', 'queue=batch', 'queue=default', /asks for default and its pool serves batch/],
  [
    'a second trigger for a pool',
    /triggers:\n(?= {2}- metadata:\n\s+targetValue: "1"\n\s+url: \S+default,moderate)/,
    'triggers:\n  - metadata: {url: "http://sluice-api.sluice-production.svc:8080/scale?queue=default", valueLocation: workers}\n    type: metrics-api\n',
    /has several triggers/,
  ],
  [
    'a secret that the docs do not make',
    'key: ADMIN_KEY',
    'key: ADMIN',
    /the docs make no secret sluice-admin with ADMIN/,
  ],
  [
    'a key in plain text',
    /valueFrom:\n\s+secretKeyRef:\n\s+key: ADMIN_KEY\n\s+name: sluice-admin/,
    'value: abc',
    /a secret in plain text/,
  ],
  ['a monitor of no port', 'port: status\n    relabel', 'port: metrics\n    relabel', /no port metrics in the pods/],
  [
    'a name in a list that no pod has',
    /- sluice-batch-worker\n/g,
    '- sluice-batch\n',
    /selects no pods of sluice-batch/,
  ],
  [
    'a policy without pods',
    'part-of: sluice\n  policyTypes',
    'part-of: mill\n  policyTypes',
    /no NetworkPolicy closes it/,
  ],
  ['public metrics', 'path: /v1', 'path: /metrics', /publishes a private path/],
  [
    'an Ingress to a missing Service',
    /service:\n(\s+)name: sluice-api/,
    'service:\n$1name: sluice',
    /no Service sluice/,
  ],
]

test.each(PLANTED)('%s is found', async (_, from, to, problem) => {
  const planted = text.replace(from, to)
  expect(planted).not.toBe(text)
  expect((await everything(parseManifests(planted))).join('\n')).toMatch(problem)
})

test('alerts and dashboards use the jobs of the monitors', () => {
  const { scrape_configs } = parse(readFileSync(join(ROOT, 'prometheus/prometheus.yml'), 'utf8')) as {
    scrape_configs: { job_name: string }[]
  }
  const jobs = [...text.matchAll(/replacement: (\S+)\n\s+targetLabel: job/g)].map(([, job]) => job)
  expect(jobs.sort()).toEqual(
    scrape_configs
      .map(one => one.job_name)
      .filter(job => job.startsWith('sluice-'))
      .sort(),
  )
})
