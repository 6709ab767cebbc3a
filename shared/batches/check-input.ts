import { setImmediate } from 'node:timers/promises'
import type { InputContext, JobKind } from '#shared/jobs/define.ts'
import type { TaskOptions } from '#shared/jobs/options.ts'
import { buildRequest, maxOutput, maxTokenUsage, promptText } from '#shared/jobs/prompt.ts'
import type { Operation } from '#shared/models/models.ts'
import { defaultOutputLimit } from '#shared/models/output-limit.ts'
import { dollars, picodollars } from '#shared/models/picodollars.ts'
import type { Prices } from '#shared/models/prices.ts'
import { unknownModel } from '#shared/models/unknown-model.ts'
import { AUTO, type AvailableProvider, route } from '#shared/routing.ts'
import { ENDPOINTS } from './endpoints/index.ts'
import type { Mapping } from './mapping.ts'
import { isProblem, readLines } from './read-lines.ts'
import { type LineProblem, MAX_PROBLEMS, type ParsedLine, type ReadOptions } from './types.ts'

export type CheckDeps = {
  jobs: ReadonlyMap<string, JobKind>
  available(): Promise<AvailableProvider[]>
  prices: Pick<Prices, 'worstCaseOf' | 'priceOf'>
  /** For one reading of an input of this key. */
  lookup(apiKeyId: string): InputContext
}

/** The format of a batch's input. */
export type InputFormat = Pick<ReadOptions, 'surface' | 'endpoint' | 'kind' | 'options'> & {
  mapping: unknown
  api_key_id: string
}

export type CheckedInput = {
  lines: number
  /** At most `MAX_PROBLEMS`, after which reading stops. A file with a problem must not run. */
  problems: LineProblem[]
  /** Upper bound of the cost of all lines with one call each; null: some price is unknown. */
  boundUsd: string | null
  /** The model, if all lines name the same one. */
  model: string | null
}

/** Longest time that reading blocks the event loop. */
const MAX_BLOCKING_MS = 5

/** Yields to the event loop. The steps of reading never wait, so that without this nothing else would run. */
export function createYielder() {
  let since = performance.now()
  return async () => {
    if (performance.now() - since < MAX_BLOCKING_MS) return
    await setImmediate()
    since = performance.now()
  }
}

export const readOptions = (format: InputFormat, deps: CheckDeps, available: readonly AvailableProvider[]) => ({
  surface: format.surface,
  endpoint: format.endpoint,
  kind: format.kind,
  mapping: format.mapping as Mapping | null,
  options: format.options,
  jobs: deps.jobs,
  isKnownModel: createModelCheck(available, operationOfLines(format, deps)),
  unknownModelMessage: (model: string) => unknownModel(model, available).message,
})

const operationOfLines = ({ kind, endpoint }: InputFormat, { jobs }: CheckDeps): Operation | undefined =>
  jobs.get(kind ?? ENDPOINTS.get(endpoint ?? '')?.kind ?? '')?.operation

/** Checks whether an available provider has a model for the operation. */
function createModelCheck(
  available: readonly AvailableProvider[],
  operation: Operation = 'chat',
): (model: string) => boolean {
  const known = new Map<string, boolean>()
  return model => {
    const answer = known.get(model) ?? route({ model }, available, { operation }).length > 0
    if (known.size < 1000) known.set(model, answer)
    return answer
  }
}

/** Resolves the references in a line's input. */
export async function prepareLine(
  { jobs }: Pick<CheckDeps, 'jobs'>,
  line: ParsedLine,
  lookup: InputContext,
): Promise<ParsedLine | LineProblem> {
  const job = jobs.get(line.kind)
  if (!job || line.rejected) return line
  const made = await job.prepare(line.input, lookup)
  if ('input' in made) return { ...line, input: made.input }
  const { field, message } = made.fault
  return { line: line.line, code: 'invalid_input', message: `${field} ${message}`, param: field }
}

/** Reads the whole input without writing: its problems, its lines and their maximum cost. */
export async function checkInput(
  deps: CheckDeps,
  format: InputFormat,
  bytes: AsyncIterable<Uint8Array>,
  signal?: AbortSignal,
): Promise<CheckedInput> {
  const available = await deps.available()
  const yieldToOthers = createYielder()
  const problems: LineProblem[] = []
  const models = new Set<string | undefined>()
  let lines = 0
  let bound: bigint | null = 0n
  const lookup = deps.lookup(format.api_key_id)
  for await (const read of readLines(bytes, readOptions(format, deps, available))) {
    await yieldToOthers()
    if (signal?.aborted) break
    const one = isProblem(read) ? read : await prepareLine(deps, read, lookup)
    if (isProblem(one)) {
      if (problems.push(one) === MAX_PROBLEMS) break
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

/** Upper bound of a line's cost over all candidates, in picodollars; null: some price is unknown. */
function worstCase(deps: CheckDeps, line: ParsedLine, available: readonly AvailableProvider[]): bigint | null {
  const kind = deps.jobs.get(line.kind)
  if (!kind) return null
  const options = line.options as TaskOptions
  const prompt = buildRequest(kind, line.input, options)
  const asked = options.model?.endsWith(AUTO) ? promptText(prompt) : ''
  let dearest = 0n
  for (const { provider, model } of route(options, available, { prompt: asked, operation: kind.operation })) {
    const most = maxTokenUsage(kind, prompt, options, { provider, model })
    if (kind.operation === 'chat' && kind.openEnded && options.max_tokens === undefined)
      most.outputTokens = defaultOutputLimit(provider, model, { inputTokens: most.inputTokens, least: kind.maxTokens })
    most.outputTokens = maxOutput(prompt, most.outputTokens)
    const usd = deps.prices.worstCaseOf(provider, model, most)
    if (usd === null) return null
    const amount = picodollars(usd)
    if (amount > dearest) dearest = amount
  }
  return dearest
}
