import type { IDeployment } from 'kubernetes-models/apps/v1/Deployment'
import type { IIngress } from 'kubernetes-models/networking.k8s.io/v1/Ingress'
import type { INetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1/NetworkPolicy'
import type { IPodDisruptionBudget } from 'kubernetes-models/policy/v1/PodDisruptionBudget'
import type { IService } from 'kubernetes-models/v1/Service'
import { idOf, type Manifest, ofKind, portNames, type Selector, selects, workloadsOf } from './manifests.ts'

/** Paths without a key, or for operators, which an Ingress must not publish. */
const PRIVATE_PATHS = ['/metrics', '/health', '/scale', '/queues']
const NAME = 'app.kubernetes.io/name'

/** Whether the docs say how to create this secret, with this key (null: any). */
export type Documented = (secret: string, key: string | null) => boolean

/** Dangling references between manifests, which are applied without complaint and then have no effect. */
export function referenceProblems(manifests: Manifest[], documented: Documented): string[] {
  return [
    ...identities(manifests),
    ...podReferences(manifests, documented),
    ...selectors(manifests),
    ...networkPolicies(manifests),
    ...ingresses(manifests),
  ]
}

/** Collects problems, each with its object. */
export function createChecks(): { check(of: Manifest, ok: boolean, problem: string): void; problems: string[] } {
  const problems: string[] = []
  return { check: (of, ok, problem) => void (ok || problems.push(`${idOf(of)}: ${problem}`)), problems }
}

/** A label of a selector that no pod has; null if there is none. */
export function strayName(selector: Selector | undefined, names: (string | undefined)[]): string | null {
  const listed = (selector?.matchExpressions ?? [])
    .filter(({ key }) => key === NAME)
    .flatMap(({ values }) => values ?? [])
  const single = selector?.matchLabels?.[NAME]
  return [...listed, ...(single === undefined ? [] : [single])].find(name => !names.includes(name)) ?? null
}

function identities(manifests: Manifest[]): string[] {
  const { check, problems } = createChecks()
  for (const manifest of manifests) {
    const one = manifests.filter(other => idOf(other) === idOf(manifest)).length === 1
    check(manifest, one, 'is there twice')
    check(manifest, manifest.metadata.namespace === manifests[0]!.metadata.namespace, 'is in another namespace')
  }
  return problems
}

/** References of pods to accounts, settings and secrets. */
function podReferences(manifests: Manifest[], documented: Documented): string[] {
  const { check, problems } = createChecks()
  const named = (kind: string) => ofKind(manifests, kind).map(({ metadata }) => metadata.name)
  for (const { kind, name, pod } of workloadsOf(manifests)) {
    const owner = manifests.find(manifest => manifest.metadata.name === name && manifest.kind === kind)!
    const account = pod.serviceAccountName
    check(owner, account === undefined || named('ServiceAccount').includes(account), `no ServiceAccount ${account}`)
    for (const container of pod.containers) {
      for (const { name: variable, valueFrom } of container.env ?? []) {
        const { name: secret = '', key = '' } = valueFrom?.secretKeyRef ?? {}
        if (secret) check(owner, documented(secret, key), `${variable}: the docs make no secret ${secret} with ${key}`)
        else check(owner, !/KEY|PASSWORD|DATABASE_URL|REDIS_URL/.test(variable), `${variable}: a secret in plain text`)
      }
      for (const { configMapRef, secretRef } of container.envFrom ?? []) {
        const map = configMapRef?.name
        check(owner, map === undefined || named('ConfigMap').includes(map), `no ConfigMap ${map}`)
        check(owner, !secretRef || documented(secretRef.name!, null), `the docs make no secret ${secretRef?.name}`)
      }
    }
  }
  return problems
}

/** References of Deployments, Services and disruption budgets to pods. */
function selectors(manifests: Manifest[]): string[] {
  const { check, problems } = createChecks()
  const workloads = workloadsOf(manifests)
  const pods = (selector: Selector | undefined) => workloads.filter(({ labels }) => selects(selector, labels))
  for (const deployment of ofKind<IDeployment>(manifests, 'Deployment')) {
    const chosen = pods(deployment.spec?.selector).map(({ name }) => name)
    check(deployment, chosen.join() === deployment.metadata.name, `its selector selects the pods of ${chosen}`)
  }
  for (const service of ofKind<IService>(manifests, 'Service')) {
    const [target, ...more] = pods({ matchLabels: service.spec?.selector ?? {} })
    check(service, target !== undefined && more.length === 0, 'wants the pods of one workload')
    for (const { targetPort } of service.spec?.ports ?? [])
      check(service, target !== undefined && portNames(target).includes(String(targetPort)), `no port ${targetPort}`)
  }
  for (const budget of ofKind<IPodDisruptionBudget>(manifests, 'PodDisruptionBudget'))
    check(budget, pods(budget.spec?.selector).length === 1, 'wants the pods of one workload')
  return problems
}

function networkPolicies(manifests: Manifest[]): string[] {
  const { check, problems } = createChecks()
  const workloads = workloadsOf(manifests)
  const policies = ofKind<INetworkPolicy>(manifests, 'NetworkPolicy')
  for (const policy of policies) {
    const chosen = workloads.filter(({ labels }) => selects(policy.spec?.podSelector, labels))
    const names = workloads.map(({ labels }) => labels[NAME])
    const stray = strayName(policy.spec?.podSelector, names)
    check(policy, chosen.length > 0 && stray === null, `selects no pods${stray ? ` of ${stray}` : ''}`)
    for (const { port } of (policy.spec?.ingress ?? []).flatMap(rule => rule.ports ?? []))
      check(
        policy,
        chosen.every(workload => portNames(workload).includes(String(port))),
        `no port ${port}`,
      )
  }
  for (const { kind, name, labels } of workloads) {
    const owner = manifests.find(manifest => manifest.metadata.name === name && manifest.kind === kind)!
    const covering = policies.filter(policy => selects(policy.spec?.podSelector, labels))
    const types = new Set(covering.flatMap(policy => policy.spec?.policyTypes ?? []))
    check(owner, types.size === 2, 'no NetworkPolicy closes it in both directions')
  }
  return problems
}

function ingresses(manifests: Manifest[]): string[] {
  const { check, problems } = createChecks()
  const services = ofKind<IService>(manifests, 'Service')
  for (const ingress of ofKind<IIngress>(manifests, 'Ingress')) {
    for (const { path = '/', backend } of (ingress.spec?.rules ?? []).flatMap(rule => rule.http?.paths ?? [])) {
      const { name, port } = backend.service ?? {}
      const service = services.find(({ metadata }) => metadata.name === name)
      const ports = (service?.spec?.ports ?? []).map(one => one.name)
      check(ingress, ports.includes(port?.name), `no Service ${name} with such a port`)
      check(ingress, !PRIVATE_PATHS.some(it => `${it}/`.startsWith(path)), `publishes a private path: ${path}`)
    }
  }
  return problems
}
