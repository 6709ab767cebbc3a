import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { capture } from './capture.ts'

/**
 * Stores the rendering of the example overlay by the real kustomize (docs/decisions/0030), so that the tests need no
 * kubectl.
 */
const ROOT = join(import.meta.dirname, '../../..')
export const RENDERED = join(ROOT, 'deploy/example.yaml')
const OVERLAY = 'deploy/overlays/example'

/** SHA-256 of the names and contents of the sources of the rendering. */
export function inputsHash(): string {
  const hash = createHash('sha256')
  for (const folder of ['base', 'components', 'overlays']) {
    const entries = readdirSync(join(ROOT, 'deploy', folder), { recursive: true, withFileTypes: true })
    const files = entries.filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name))
    for (const file of files.sort()) {
      hash.update(`${file.slice(ROOT.length)}\0`)
      hash.update(readFileSync(file))
    }
  }
  return hash.digest('hex')
}

export const hashIn = (rendered: string): string | null =>
  /^# inputs: sha256 ([0-9a-f]{64})$/m.exec(rendered)?.[1] ?? null

/** The manifests of the example overlay; null without a kubectl on PATH with a recent kustomize (Debian's is too old). */
export async function render(): Promise<string | null> {
  const version = await capture('kubectl', ['version', '--client'], ROOT)
  if (!/Kustomize Version: v([5-9]|\d\d)/.test(version?.stdout ?? '')) return null
  const result = await capture('kubectl', ['kustomize', OVERLAY], ROOT)
  if (result === null) return null
  if (result.code !== 0) throw new Error(`kubectl kustomize ${OVERLAY}: ${result.stderr.trim()}`)
  return result.stdout
}

if (import.meta.main) {
  try {
    const rendered = await render()
    if (rendered === null) throw new Error('no kubectl with Kustomize 5 or newer is on PATH')
    writeFileSync(
      RENDERED,
      `# Made from ${OVERLAY} by \`npm run render\`; not to be edited.\n# inputs: sha256 ${inputsHash()}\n${rendered}`,
    )
    process.stdout.write('deploy/example.yaml: brought up to date\n')
  } catch (error) {
    process.stderr.write(`sluice: ${(error as Error).message}\n`)
    process.exitCode = 1
  }
}
