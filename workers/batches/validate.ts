import { setImmediate } from 'node:timers/promises'
import { type BatchParts, isProblem, type LineProblem, type ParsedLine } from '#shared/batches/ports.ts'
import { taskCacheKey } from '#shared/cache-key.ts'
import type { BatchRow } from '#shared/db/batches.ts'
import { jsonOrNull } from '#shared/db/json.ts'
import { insertLines, type NewChunk, type NewLine } from '#shared/db/lines.ts'
import { persist } from '#shared/db/persist.ts'
import type { Db } from '#shared/db/pool.ts'
import { newId } from '#shared/ids.ts'
import type { JobKind } from '#shared/jobs/define.ts'
import type { TaskOptions } from '#shared/jobs/options.ts'
import { MODEL_FAMILIES } from '#shared/models/models.ts'
import { dollars, picodollars } from '#shared/models/picodollars.ts'
import type { Prices } from '#shared/models/prices.ts'
import { upperBoundTokens } from '#shared/models/tokens.ts'
import { AUTO, type Available, route } from '#shared/routing.ts'

export type CheckDeps = Pick<BatchParts, 'readLines'> & {
  jobs: ReadonlyMap<string, JobKind>
  available(): Promise<Available[]>
  prices: Pick<Prices, 'worstCaseOf' | 'priceOf'>
}

/** How the lines of a batch are to be read. */
export type InputFormat = Pick<BatchRow, 'surface' | 'endpoint' | 'kind' | 'mapping' | 'options'>

export type Checked = {
  lines: number
  /** At most `MOST_PROBLEMS`, and then reading has stopped. Nothing of the file may be run if there is one. */
  problems: LineProblem[]
  /** What all lines together can cost at most, each answered by one call; null: some price is not known. */
  boundUsd: string | null
  /** The one that all lines name. */
  model: string | null
}

export const MOST_PROBLEMS = 100
/** Lines of a chunk. */
const CHUNK_LINES = 200
/** Of one statement; a chunk ends with it. */
const SLICE_LINES = 1000
const SLICE_CHARACTERS = 4_000_000
/** So long nothing else of the process has its turn. */
const BREATH_MS = 5

/** Reading is made of steps that all are ready at once: without this nothing else would run meanwhile. */
function createBreath() {
  let since = performance.now()
  return async () => {
    if (performance.now() - since < BREATH_MS) return
    await setImmediate()
    since = performance.now()
  }
}

const readOptions = (format: InputFormat, deps: CheckDeps, available: readonly Available[]) => ({
  surface: format.surface,
  endpoint: format.endpoint,
  kind: format.kind,
  mapping: format.mapping,
  options: format.options,
  jobs: deps.jobs,
  knowsModel: modelKnower(available, deps.prices),
})

/** Whether a provider that can be asked has such a model, as far as is known: by its name, its family or its price. */
export function modelKnower(
  available: readonly Available[],
  prices: Pick<Prices, 'priceOf'>,
): (model: string) => boolean {
  const has = (name: string | undefined) => available.some(one => one.name === name)
  const known = new Map<string, boolean>()
  const look = (model: string) =>
    available.length > 0 &&
    (model === AUTO ||
      (model.includes('/') && has(model.split('/')[0])) ||
      available.some(one => one.defaultModel === model || prices.priceOf(one.name, model) !== null) ||
      has(MODEL_FAMILIES.find(one => one.pattern.test(model))?.provider))
  return model => {
    const answer = known.get(model) ?? look(model)
    if (known.size < 1000) known.set(model, answer)
    return answer
  }
}

/** Reads the whole input once: what is wrong with it, how much it is, what it can cost. Writes nothing. */
export async function checkInput(
  deps: CheckDeps,
  format: InputFormat,
  bytes: AsyncIterable<Uint8Array>,
  signal?: AbortSignal,
): Promise<Checked> {
  const available = await deps.available()
  const breath = createBreath()
  const problems: LineProblem[] = []
  const models = new Set<string | undefined>()
  let lines = 0
  let bound: bigint | null = 0n
  for await (const one of deps.readLines(bytes, readOptions(format, deps, available))) {
    await breath()
    if (signal?.aborted) break
    if (isProblem(one)) {
      if (problems.push(one) === MOST_PROBLEMS) break
      continue
    }
    lines++
    if (models.size < 2) models.add(one.options.model as string | undefined)
    if (one.rejected || bound === null || problems.length > 0) continue
    const most = worstCase(deps, one, available)
    bound = most === null ? null : bound + most
  }
  const [model] = models
  return {
    lines,
    problems,
    boundUsd: bound === null || problems.length > 0 ? null : dollars(bound),
    model: models.size === 1 ? (model ?? null) : null,
  }
}

/** Of the dearest candidate, picodollars. */
function worstCase(deps: CheckDeps, line: ParsedLine, available: readonly Available[]): bigint | null {
  const kind = deps.jobs.get(line.kind)
  if (!kind) return null
  const options = line.options as TaskOptions
  const prompt = kind.prompt(line.input)
  const asked = options.model?.endsWith(AUTO)
    ? [prompt.system ?? '', ...prompt.messages.map(one => one.content)].join('\n')
    : ''
  const most = { inputTokens: upperBoundTokens(prompt), outputTokens: options.max_tokens ?? kind.maxTokens }
  let dearest = 0n
  for (const { provider, model } of route(options, available, { prompt: asked })) {
    const usd = deps.prices.worstCaseOf(provider, model, most)
    if (usd === null) return null
    const amount = picodollars(usd)
    if (amount > dearest) dearest = amount
  }
  return dearest
}

/** Writes all lines and their chunks. To be repeated at will. @returns false: the batch is validated no more */
export async function writeLines(
  deps: CheckDeps & Pick<BatchParts, 'rejectedError'> & { db: Db },
  batch: Pick<BatchRow, 'id' | 'api_key_id'> & InputFormat,
  bytes: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<boolean> {
  const breath = createBreath()
  let lines: NewLine[] = []
  let chunks: NewChunk[] = []
  let characters = 0
  let inChunk = 0
  /** One statement is under way while the next is made. */
  let writing: Promise<boolean> = Promise.resolve(true)

  async function flush(): Promise<boolean> {
    const slice = [lines, chunks] as const
    lines = []
    chunks = []
    characters = 0
    inChunk = 0
    if (!(await writing)) return false
    writing = persist(() => insertLines(deps.db, batch.id, ...slice))
    // It is awaited before the next one, or at the end.
    writing.catch(() => undefined)
    return true
  }

  for await (const one of deps.readLines(bytes, readOptions(batch, deps, await deps.available()))) {
    await breath()
    if (signal.aborted) return false
    if (isProblem(one)) throw new Error(`line ${one.line} was fine when it was checked: ${one.message}`)
    const line = newLine(deps, batch.api_key_id, one)
    lines.push(line)
    characters += line.input.length + line.options.length
    if (inChunk === 0) chunks.push({ id: newId(), firstLine: line.line, lastLine: line.line })
    chunks.at(-1)!.lastLine = line.line
    inChunk = (inChunk + 1) % CHUNK_LINES
    if ((lines.length >= SLICE_LINES || characters >= SLICE_CHARACTERS) && !(await flush())) return false
  }
  return (lines.length === 0 || (await flush())) && (await writing)
}

function newLine(
  { jobs, rejectedError }: CheckDeps & Pick<BatchParts, 'rejectedError'>,
  apiKeyId: string,
  one: ParsedLine,
): NewLine {
  const kind = jobs.get(one.kind)
  const options = one.options as TaskOptions
  return {
    id: newId(),
    line: one.line,
    customId: one.customId,
    kind: one.kind,
    queue: kind?.queue ?? 'default',
    input: JSON.stringify(one.input),
    options: JSON.stringify(options),
    metadata: jsonOrNull(one.metadata),
    cacheKey: kind && !one.rejected ? taskCacheKey(kind, { input: one.input, options, apiKeyId }) : null,
    error: jsonOrNull(one.rejected && rejectedError(one.rejected)),
  }
}
