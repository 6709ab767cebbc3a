import { readFileSync } from 'node:fs'
import { glob } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * The clock of a machine must not decide the age of anything: a clock that was wrong by 40 days deleted tasks that had just
 * ended. The API, the workers and shared code take the time from `shared/process/clock.ts` or from `now()` in SQL.
 */
const FILES = ['shared/**/*.ts', 'workers/**/*.ts', 'apps/api/**/*.ts']
const TESTS = /\.test\.ts$|\/testing\/|simulation\.ts$/

/** Files that may read the machine's clock. */
const ALLOWED: Record<string, string> = {
  'shared/process/clock.ts': 'compares it with the clock of Postgres',
  'shared/tracing/sdk.ts': 'spans have the time of their machine, like the spans of other services',
}

/** Expressions that read the clock. Date as a type, conversions of a given time, and its pure functions are allowed. */
const READS: [pattern: RegExp, what: string][] = [
  [/\bDate\s*(?:\?\.|\.)\s*now\b/, 'Date.now'],
  [/\bnew\s+Date\s*\(\s*\)/, 'new Date()'],
  [/\bnew\s+Date\b(?!\s*\()/, 'new Date'],
  [/(?<!new\s+)(?<![.\w])Date\s*\(/, 'Date()'],
  [/\bDate\s*\[/, 'Date[…]'],
  [/\}\s*=\s*Date\b/, 'destructured Date'],
  [/\bReflect\.construct\(\s*Date\b/, 'Reflect.construct(Date)'],
  [/\bTemporal\.Now\b/, 'Temporal.Now'],
  [/\bperformance\.timeOrigin\b/, 'performance.timeOrigin'],
]

const withoutComments = (text: string): string =>
  text.replace(/\/\*[\s\S]*?\*\/|(?<!:)\/\/.*$/gm, found => found.replace(/[^\n]/g, ' '))

/** @returns `<line>: <expression that reads the clock>` */
export const clockReads = (source: string): string[] =>
  withoutComments(source)
    .split('\n')
    .flatMap((line, index) => READS.filter(([read]) => read.test(line)).map(([, what]) => `${index + 1}: ${what}`))

/** Checks all files, prints the violations, and returns whether there are none. */
export async function checkWallClock(root: string): Promise<boolean> {
  let files = 0
  let violations = 0
  for await (const file of glob(FILES, { cwd: root })) {
    if (TESTS.test(file) || file in ALLOWED) continue
    files++
    for (const read of clockReads(readFileSync(join(root, file), 'utf8'))) {
      violations++
      console.error(
        `${file}:${read} reads the clock of the machine; use now() of #shared/process/clock.ts, or now() in SQL`,
      )
    }
  }
  console.log(`${files} files, ${violations} reads of the machine's clock`)
  return violations === 0 && files > 0
}
