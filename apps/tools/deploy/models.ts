import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { capture } from './capture.ts'
import { idOf, type Manifest } from './manifests.ts'

const ROOT = join(import.meta.dirname, '../../..')

/** The module with the model of this kind. */
function moduleOf({ apiVersion, kind }: Manifest): string {
  if (apiVersion.startsWith('keda.sh/')) return `@kubernetes-models/keda/${apiVersion}/${kind}`
  if (apiVersion.startsWith('monitoring.coreos.com/'))
    return `@kubernetes-models/prometheus-operator/${apiVersion}/${kind}`
  return `kubernetes-models/${apiVersion}/${kind}`
}

type Model = new (data: Manifest) => { validate(): void }

/** Violations of the schemas of Kubernetes, KEDA and the Prometheus operator: types, formats, missing fields. */
export async function schemaProblems(manifests: Manifest[]): Promise<string[]> {
  const problems: string[] = []
  for (const manifest of manifests) {
    try {
      const module = (await import(moduleOf(manifest))) as Record<string, Model>
      new module[manifest.kind]!(manifest).validate()
    } catch (error) {
      problems.push(`${idOf(manifest)}: ${(error as Error).message}`)
    }
  }
  return problems
}

/**
 * Fields and values that the models do not have. The schemas allow further fields, which the API server ignores, so that a
 * misspelt probe would silently be missing. TypeScript's check of object literals against the model types finds them.
 */
export async function fieldProblems(manifests: Manifest[]): Promise<string[]> {
  const lines: string[] = []
  const owners: string[] = []
  for (const [index, manifest] of manifests.entries()) {
    const literal = JSON.stringify(manifest, null, 1)
    const text = `import type { I${manifest.kind} as T${index} } from '${moduleOf(manifest)}'\nexport const m${index}: T${index} = ${literal}`
    for (const line of text.split('\n')) {
      lines.push(line)
      owners.push(idOf(manifest))
    }
  }
  const dir = mkdtempSync(join(tmpdir(), 'sluice-manifests-'))
  try {
    symlinkSync(join(ROOT, 'node_modules'), join(dir, 'node_modules'))
    writeFileSync(join(dir, 'package.json'), '{"type":"module"}')
    writeFileSync(join(dir, 'manifests.ts'), lines.join('\n'))
    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc')
    const flags = [
      '--noEmit',
      '--strict',
      '--skipLibCheck',
      '--module',
      'nodenext',
      '--target',
      'es2024',
      '--types',
      '',
    ]
    const result = await capture(process.execPath, [tsc, ...flags, '--pretty', 'false', 'manifests.ts'], dir)
    const found = [...(result?.stdout ?? '').matchAll(/^manifests\.ts\((\d+),\d+\): error (?:TS\d+: )(.*)$/gm)]
    if (result?.code !== 0 && found.length === 0) throw new Error(`tsc: ${result?.stdout} ${result?.stderr}`)
    return found.map(([, line, message]) => `${owners[Number(line) - 1]}: ${message}`)
  } finally {
    rmSync(dir, { recursive: true })
  }
}
