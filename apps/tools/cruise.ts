import { join } from 'node:path'
import { cruise as depcruise, type ICruiseOptions, type ICruiseResult } from 'dependency-cruiser'
import extractOptions from 'dependency-cruiser/config-utl/extract-depcruise-options'

/** Checks the rules in .dependency-cruiser.cjs, prints the violations, and returns whether there are none. */
export async function cruise(root: string): Promise<boolean> {
  const options = (await extractOptions(join(root, '.dependency-cruiser.cjs'))) as ICruiseOptions
  const { output } = await depcruise(['apps', 'workers', 'shared', 'bench'], { ...options, baseDir: root })
  const { summary } = output as ICruiseResult
  for (const { rule, from, to } of summary.violations) console.error(`${rule.name}: ${from} -> ${to}`)
  console.log(`${summary.totalCruised} modules, ${summary.totalDependenciesCruised} dependencies`)
  // Without a parser for TypeScript it finds no modules, and therefore no violations.
  return summary.violations.length === 0 && summary.totalCruised > 0
}
