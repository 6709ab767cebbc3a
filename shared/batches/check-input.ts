import { setImmediate } from 'node:timers/promises'
import type { JobKind, Lookup } from '#shared/jobs/define.ts'
import type { TaskOptions } from '#shared/jobs/options.ts'
import { mostTokens, promptOf, wordsOf } from '#shared/jobs/prompt.ts'
import { MODEL_FAMILIES, type Operation } from '#shared/models/models.ts'
import { dollars, picodollars } from '#shared/models/picodollars.ts'
import type { Prices } from '#shared/models/prices.ts'
import { AUTO, type Available, route } from '#shared/routing.ts'
import { ENDPOINTS } from './endpoints/index.ts'
import { isProblem, readLines } from './lines.ts'
import type { Mapping } from './mapping.ts'
import { type LineProblem, MOST_PROBLEMS, type ParsedLine, type ReadOptions } from './types.ts'

export type CheckDeps = {
  jobs: ReadonlyMap<string, JobKind>
  available(): Promise<Available[]>
  prices: Pick<Prices, 'worstCaseOf' | 'priceOf'>
  /** For one reading of an input of this key's. */
  lookup(apiKeyId: string): Lookup
}

/** How the lines of a batch are to be read. */
export type InputFormat = Pick<ReadOptions, 'surface' | 'endpoint' | 'kind' | 'options'> & {
  mapping: unknown
  api_key_id: string
}

export type Checked = {
  lines: number
  /** At most `MOST_PROBLEMS`, and then reading has stopped. Nothing of the file may be run if there is one. */
  problems: LineProblem[]
  /** What all lines together can cost at most, each answered by one call; null: some price is not known. */
  boundUsd: string | null
  /** The one that all lines name. */
  model: string | null
}

/** So long nothing else of the process has its turn. */
const BREATH_MS = 5

/** Reading is made of steps that all are ready at once: without this nothing else would run meanwhile. */
export function createBreath() {
  let since = performance.now()
  return async () => {
    if (performance.now() - since < BREATH_MS) return
    await setImmediate()
    since = performance.now()
  }
}

export const readOptions = (format: InputFormat, deps: CheckDeps, available: readonly Available[]) => ({
  surface: format.surface,
  endpoint: format.endpoint,
  kind: format.kind,
  mapping: format.mapping as Mapping | null,
  options: format.options,
  jobs: deps.jobs,
  knowsModel: modelKnower(available, deps.prices, operationOfLines(format, deps)),
})

const operationOfLines = ({ kind, endpoint }: InputFormat, { jobs }: CheckDeps): Operation | undefined =>
  jobs.get(kind ?? ENDPOINTS.get(endpoint ?? '')?.kind ?? '')?.operation

/**
 * Whether a provider that can be asked has such a model, as far as is known: by its name, its family or its price. One that
 * does something else is as good as none.
 */
export function modelKnower(
  available: readonly Available[],
  prices: Pick<Prices, 'priceOf'>,
  operation: Operation = 'chat',
): (model: string) => boolean {
  const has = (name: string | undefined) => available.some(one => one.name === name)
  const known = new Map<string, boolean>()
  const look = (model: string) =>
    route({ model }, available, { operation }).length > 0 &&
    (model === AUTO ||
      (model.includes('/') && has(model.split('/')[0])) ||
      available.some(
        one => one.defaultModel === model || one.embeds?.model === model || prices.priceOf(one.name, model) !== null,
      ) ||
      has(MODEL_FAMILIES.find(one => one.pattern.test(model))?.provider))
  return model => {
    const answer = known.get(model) ?? look(model)
    if (known.size < 1000) known.set(model, answer)
    return answer
  }
}

/** A line with what its input refers to. `lookup` is that of the reading. */
export async function prepared(
  { jobs }: Pick<CheckDeps, 'jobs'>,
  line: ParsedLine,
  lookup: Lookup,
): Promise<ParsedLine | LineProblem> {
  const job = jobs.get(line.kind)
  if (!job || line.rejected) return line
  const made = await job.prepare(line.input, lookup)
  if ('input' in made) return { ...line, input: made.input }
  const { field, message } = made.complaint
  return { line: line.line, code: 'invalid_input', message: `${field} ${message}`, param: field }
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
  const lookup = deps.lookup(format.api_key_id)
  for await (const read of readLines(bytes, readOptions(format, deps, available))) {
    await breath()
    if (signal?.aborted) break
    const one = isProblem(read) ? read : await prepared(deps, read, lookup)
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
  const prompt = promptOf(kind, line.input, options)
  const asked = options.model?.endsWith(AUTO) ? wordsOf(prompt) : ''
  const most = mostTokens(kind, prompt, options)
  let dearest = 0n
  for (const { provider, model } of route(options, available, { prompt: asked, operation: kind.operation })) {
    const usd = deps.prices.worstCaseOf(provider, model, most)
    if (usd === null) return null
    const amount = picodollars(usd)
    if (amount > dearest) dearest = amount
  }
  return dearest
}
