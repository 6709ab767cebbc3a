import type { IObjectMeta } from '@kubernetes-models/apimachinery/apis/meta/v1/ObjectMeta'
import type { IDeployment } from 'kubernetes-models/apps/v1/Deployment'
import type { IJob } from 'kubernetes-models/batch/v1/Job'
import type { IPodSpec } from 'kubernetes-models/v1/PodSpec'
import { parseAllDocuments } from 'yaml'

/** A Kubernetes object of any kind. */
export type Manifest = { apiVersion: string; kind: string; metadata: IObjectMeta & { name: string } }

/** The pod template of a Deployment or a Job. */
export type Workload = {
  kind: 'Deployment' | 'Job'
  name: string
  labels: Record<string, string>
  pod: IPodSpec
}

/** @throws if the text is not YAML */
export function parseManifests(text: string): Manifest[] {
  return parseAllDocuments(text).map(document => {
    if (document.errors[0]) throw document.errors[0]
    return document.toJS() as Manifest
  })
}

export const ofKind = <T>(manifests: Manifest[], kind: string): (T & Manifest)[] =>
  manifests.filter(manifest => manifest.kind === kind) as (T & Manifest)[]

export function workloadsOf(manifests: Manifest[]): Workload[] {
  return [...ofKind<IDeployment>(manifests, 'Deployment'), ...ofKind<IJob>(manifests, 'Job')].map(manifest => ({
    kind: manifest.kind as Workload['kind'],
    name: manifest.metadata.name,
    labels: manifest.spec?.template?.metadata?.labels ?? {},
    pod: manifest.spec?.template?.spec as IPodSpec,
  }))
}

export type Selector = {
  matchLabels?: Record<string, string>
  matchExpressions?: { key: string; operator: string; values?: string[] }[]
}

/** Label selectors of Kubernetes, with the only operator that is used here, `In`. */
export function selects(selector: Selector | undefined, labels: Record<string, string>): boolean {
  const { matchLabels = {}, matchExpressions = [] } = selector ?? {}
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, operator, values = [] }) => {
      if (operator !== 'In') throw new Error(`an operator that this does not know: ${operator}`)
      return labels[key] !== undefined && values.includes(labels[key])
    })
  )
}

export const portNames = ({ pod }: Workload): string[] =>
  pod.containers.flatMap(container => (container.ports ?? []).flatMap(port => port.name ?? []))

export const idOf = ({ kind, metadata }: Manifest): string => `${kind} ${metadata.name}`
