import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { IContainer } from 'kubernetes-models/v1/Container'
import { parseConfig } from '#shared/config.ts'
import { QUEUES } from '#shared/queue/names.ts'
import { settings } from '#shared/settings/settings.ts'
import { type Manifest, ofKind, portNames, type Workload, workloadsOf } from './manifests.ts'

const ROOT = join(import.meta.dirname, '../../..')
/** Time for a process to exit after DRAIN_SECONDS (apps/api/main.ts, workers/main.ts), with a margin. */
const AFTER_DRAIN_SECONDS = 8 + 2
const PROBED = ['/health/live', '/health/ready']
/** Settings of Node. */
const FOREIGN_SETTINGS = ['NODE_OPTIONS', 'NODE_EXTRA_CA_CERTS', 'AWS_REGION']

/** Errors in pods: security, probes, termination and settings. */
export function workloadProblems(manifests: Manifest[]): string[] {
  const shared = ofKind<{ data?: Record<string, string> }>(manifests, 'ConfigMap').map(map => map.data ?? {})
  const values: Record<string, string> = Object.assign({}, ...shared)
  const workloads = workloadsOf(manifests)
  return [
    ...workloads.flatMap(workload => {
      const [container, ...more] = workload.pod.containers
      if (!container || more.length > 0) return [`${workload.name}: wants one container`]
      const found = [
        ...lockUp(workload, container),
        ...entry(container),
        ...environment(container),
        ...(workload.kind === 'Deployment' ? serving(workload, container, Number(values.DRAIN_SECONDS)) : []),
      ]
      return found.map(problem => `${workload.name}: ${problem}`)
    }),
    ...configuration(values),
    ...pools(workloads),
  ]
}

const when = (wrong: boolean, problem: string): string[] => (wrong ? [problem] : [])

function lockUp({ pod }: Workload, { image, resources, securityContext }: IContainer): string[] {
  return [
    ...when(pod.automountServiceAccountToken !== false, 'gets a token of the API server'),
    ...when(pod.enableServiceLinks !== false, 'gets variables of every Service'),
    ...when(pod.securityContext?.runAsNonRoot !== true, 'may run as root'),
    // The kubelet cannot check a user name against runAsNonRoot.
    ...when(!((pod.securityContext?.runAsUser ?? 0) > 0), 'has no numeric user'),
    ...when(pod.securityContext?.seccompProfile?.type !== 'RuntimeDefault', 'has no seccomp profile'),
    ...when(securityContext?.allowPrivilegeEscalation !== false, 'may gain privileges'),
    ...when(securityContext?.readOnlyRootFilesystem !== true, 'may write to its file system'),
    ...when(securityContext?.capabilities?.drop?.join() !== 'ALL', 'keeps capabilities'),
    ...when(!resources?.requests?.cpu || !resources.requests.memory, 'requests no CPU or memory'),
    ...when(!resources?.limits?.memory, 'has no limit of memory'),
    ...when(resources?.limits?.cpu !== undefined, 'has a limit of CPU, which throttles it'),
    ...when(!/:\d+\.\d+\.\d+|@sha256:/.test(image ?? ''), `has an image without a version: ${image}`),
  ]
}

function entry({ args = [] }: IContainer): string[] {
  const [node, file = ''] = args
  return when(node !== 'node' || !existsSync(join(ROOT, file)), `does not run one of our programs: ${args.join(' ')}`)
}

function environment({ env = [] }: IContainer): string[] {
  return env
    .filter(({ name }) => !(name in settings) && !FOREIGN_SETTINGS.includes(name))
    .map(({ name }) => `sets an unknown setting: ${name}`)
}

function serving(workload: Workload, container: IContainer, drainSeconds: number): string[] {
  const { pod } = workload
  const sleep = container.lifecycle?.preStop?.sleep?.seconds ?? 0
  const wanted = sleep + drainSeconds + AFTER_DRAIN_SECONDS
  const probes = ['startupProbe', 'readinessProbe', 'livenessProbe'] as const
  return [
    ...when(!((pod.terminationGracePeriodSeconds ?? 30) >= wanted), `is killed before it has drained (${wanted} s)`),
    ...when((pod.topologySpreadConstraints ?? []).length === 0, 'is not spread over nodes'),
    ...probes.flatMap(name => {
      const probe = container[name]?.httpGet
      if (!probe) return [`has no ${name}`]
      return [
        ...when(!PROBED.includes(probe.path ?? ''), `${name}: no such path ${probe.path}`),
        ...when(!portNames(workload).includes(String(probe.port)), `${name}: no such port ${probe.port}`),
      ]
    }),
    ...when(
      container.livenessProbe?.httpGet?.path === '/health/ready',
      'livenessProbe: would restart it while Postgres is away',
    ),
  ]
}

function configuration(values: Record<string, string>): string[] {
  const unknown = Object.keys(values).filter(name => !(name in settings) && !FOREIGN_SETTINGS.includes(name))
  try {
    parseConfig(values)
    return unknown.map(name => `settings: ${name} is unknown`)
  } catch (error) {
    return [`settings: ${(error as Error).message}`]
  }
}

export const queuesOf = ({ pod }: Workload): string[] => {
  const args = pod.containers[0]?.args ?? []
  return args[args.indexOf('--queues') + 1]?.split(',') ?? []
}

/** Checks that each queue has one pool. */
function pools(workloads: Workload[]): string[] {
  const consumed = workloads.filter(({ pod }) => pod.containers[0]?.args?.includes('--queues')).flatMap(queuesOf)
  return [
    ...QUEUES.filter(queue => !consumed.includes(queue)).map(queue => `no pool serves the queue ${queue}`),
    ...consumed
      .filter((queue, index) => consumed.indexOf(queue) !== index || !(QUEUES as readonly string[]).includes(queue))
      .map(queue => `the queue ${queue} has two pools, or does not exist`),
  ]
}
