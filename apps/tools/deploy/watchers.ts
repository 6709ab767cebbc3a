import type { IScaledObject } from '@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject'
import type { IPodMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PodMonitor'
import type { IServiceMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor'
import type { IDeployment } from 'kubernetes-models/apps/v1/Deployment'
import type { IHorizontalPodAutoscaler } from 'kubernetes-models/autoscaling/v2/HorizontalPodAutoscaler'
import type { IService } from 'kubernetes-models/v1/Service'
import { type Manifest, ofKind, portNames, type Selector, selects, workloadsOf } from './manifests.ts'
import { createChecks, strayName } from './references.ts'
import { queuesOf } from './workloads.ts'

/** Dangling references of scalers and monitors. */
export const watcherProblems = (manifests: Manifest[]): string[] => [
  ...scalers(manifests),
  ...triggers(manifests),
  ...monitors(manifests),
]

function scalers(manifests: Manifest[]): string[] {
  const { check, problems } = createChecks()
  const deployments = ofKind<IDeployment>(manifests, 'Deployment')
  const all = [
    ...ofKind<IHorizontalPodAutoscaler>(manifests, 'HorizontalPodAutoscaler'),
    ...ofKind<IScaledObject>(manifests, 'ScaledObject'),
  ]
  const targets = all.map(({ spec }) => spec!.scaleTargetRef.name)
  for (const [index, scaler] of all.entries())
    check(
      scaler,
      deployments.some(({ metadata }) => metadata.name === targets[index]),
      `no Deployment ${targets[index]}`,
    )
  for (const deployment of deployments) {
    const owners = targets.filter(target => target === deployment.metadata.name).length
    check(deployment, owners <= 1, 'is scaled by two')
    check(deployment, owners === 0 || deployment.spec?.replicas === undefined, 'sets replicas, and so does its scaler')
  }
  return problems
}

/** KEDA asks a Service of the API for all queues of the pool at once, because it takes the largest of several triggers. */
function triggers(manifests: Manifest[]): string[] {
  const { check, problems } = createChecks()
  for (const scaled of ofKind<IScaledObject>(manifests, 'ScaledObject')) {
    const asked: string[] = []
    for (const { metadata } of scaled.spec.triggers) {
      const { hostname, port, pathname, searchParams } = new URL(metadata.url ?? 'none:')
      const service = ofKind<IService>(manifests, 'Service').find(
        ({ metadata: { name, namespace } }) => hostname === `${name}.${namespace}.svc`,
      )
      const ports = (service?.spec?.ports ?? []).map(one => String(one.port))
      check(scaled, ports.includes(port) && pathname === '/scale', `no Service answers at ${metadata.url}`)
      asked.push(...(searchParams.get('queue') ?? '').split(','))
    }
    const target = workloadsOf(manifests).find(({ name }) => name === scaled.spec.scaleTargetRef.name)
    const queues = target ? queuesOf(target) : []
    const same = asked.toSorted().join() === queues.toSorted().join()
    check(scaled, same, `asks for ${asked} and its pool serves ${queues}`)
    check(scaled, scaled.spec.triggers.length === 1, 'has several triggers, of which KEDA takes the largest number')
  }
  return problems
}

function monitors(manifests: Manifest[]): string[] {
  const { check, problems } = createChecks()
  const workloads = workloadsOf(manifests)
  for (const monitor of ofKind<IServiceMonitor>(manifests, 'ServiceMonitor')) {
    const chosen = ofKind<IService>(manifests, 'Service').filter(({ metadata }) =>
      selects(monitor.spec.selector as Selector, metadata.labels ?? {}),
    )
    const ports = chosen.flatMap(({ spec }) => (spec?.ports ?? []).map(({ name }) => name))
    for (const { port } of monitor.spec.endpoints) check(monitor, ports.includes(port), `no port ${port} in a Service`)
  }
  for (const monitor of ofKind<IPodMonitor>(manifests, 'PodMonitor')) {
    const selector = monitor.spec.selector as Selector
    const chosen = workloads.filter(({ labels }) => selects(selector, labels))
    const stray = strayName(
      selector,
      workloads.map(({ labels }) => labels['app.kubernetes.io/name']),
    )
    check(monitor, chosen.length > 0 && stray === null, `selects no pods${stray ? ` of ${stray}` : ''}`)
    for (const { port } of monitor.spec.podMetricsEndpoints ?? [])
      check(
        monitor,
        chosen.every(workload => portNames(workload).includes(port!)),
        `no port ${port} in the pods`,
      )
  }
  return problems
}
