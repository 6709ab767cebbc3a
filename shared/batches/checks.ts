import { Ajv } from 'ajv'
import { type TSchema, Type } from 'typebox'
import type { JobKind } from '#shared/jobs/define.ts'
import { optionsFor, taskOptions } from '#shared/jobs/options.ts'
import { clean } from '#shared/text.ts'

/** `field`: a JSON pointer. `keyword`: the rule of JSON Schema that was broken; `kind`: one of the kind's own. */
export type Fault = { field: string; keyword: string; message: string }
export type Check = (value: unknown) => Fault | null

/** A line has its batch's priority and deadline; nobody watches it being written, or is told of each. It is no user's. */
const OF_THE_BATCH: ReadonlySet<string> = new Set(['priority', 'deadline_seconds', 'stream', 'webhook_url', 'user_id'])

/** The options that can be those of one line. */
export const ofLine = <T>(options: Record<string, T>): Record<string, T> =>
  Object.fromEntries(Object.entries(options).filter(([name]) => !OF_THE_BATCH.has(name)))

/** Compiling costs milliseconds, and most batches are small. */
const compiled = new WeakMap<TSchema, Check>()

/** What has a default and is missing is filled in, as the API does it. */
export function schemaCheck(schema: TSchema, root: string): Check {
  const known = compiled.get(schema)
  if (known) return known
  const check = compile(schema, root)
  compiled.set(schema, check)
  return check
}

function compile(schema: TSchema, root: string): Check {
  const validate = new Ajv({ useDefaults: true, coerceTypes: false, strict: false }).compile(schema)
  return value => {
    if (validate(value)) return null
    const { keyword, instancePath, message, params } = validate.errors![0]!
    const named = (params.missingProperty ?? params.additionalProperty) as string | undefined
    const field = shown(`${root}${instancePath}${named === undefined ? '' : `/${named}`}`)
    if (keyword === 'required') return { field, keyword, message: 'is missing' }
    if (keyword === 'additionalProperties') return { field, keyword, message: 'is not known' }
    const allowed = params.allowedValues as unknown[] | undefined
    return { field, keyword, message: allowed ? `must be one of ${allowed.join(', ')}` : message! }
  }
}

const lineOptions = (properties: Record<string, TSchema>) =>
  Type.Object(ofLine<TSchema>(properties), { additionalProperties: false, required: [] })
const anyLineOptions = lineOptions(taskOptions.properties)
const lineOptionsOf = new WeakMap<JobKind, TSchema>()

/** @param job whose options; none: those of any kind */
export function optionsCheck(job?: JobKind): Check {
  if (!job) return schemaCheck(anyLineOptions, '/options')
  const schema = lineOptionsOf.get(job) ?? lineOptions(optionsFor(job).properties)
  lineOptionsOf.set(job, schema)
  return schemaCheck(schema, '/options')
}

export function inputCheck(job: JobKind): Check {
  const fits = schemaCheck(job.input, '/input')
  return input => {
    const fault = fits(input)
    if (fault) return fault
    const complaint = job.validate(input)
    return (
      complaint && {
        field: shown(complaint.field),
        keyword: complaint.tooLarge ? 'maxLength' : 'kind',
        message: shown(complaint.message, 500),
      }
    )
  }
}

/** Text of the client's within a message of ours: storable, and not endless. */
export const shown = (text: string, length = 100): string =>
  clean(text.length > length ? `${text.slice(0, length)}…` : text)

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** The model that a task's options name, with its provider if they name that apart. */
export const modelOf = ({ provider, model }: Record<string, unknown>): string | null =>
  typeof model !== 'string' ? null : typeof provider === 'string' ? `${provider}/${model}` : model
