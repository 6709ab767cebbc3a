import { Ajv } from 'ajv'
import { type TSchema, Type } from 'typebox'
import type { JobKind } from '#shared/jobs/define.ts'
import { optionsFor, taskOptions } from '#shared/jobs/options.ts'
import { isRawNumber } from '#shared/json/lossless.ts'
import { describeFault, type SchemaError } from '#shared/json/schema-fault.ts'
import { clean } from '#shared/text.ts'

/** `field`: a JSON pointer. `keyword`: the violated keyword of JSON Schema, or `kind` for a check of the kind. */
export type Fault = { field: string; keyword: string; message: string }
export type Check = (value: unknown) => Fault | null

/** Options that lines do not have: the batch sets priority and deadline, and lines have no stream, webhook or user. */
const OF_THE_BATCH: ReadonlySet<string> = new Set(['priority', 'deadline_seconds', 'stream', 'webhook_url', 'user_id'])

/** The options that a line can have. */
export const lineOptionsAmong = <T>(options: Record<string, T>): Record<string, T> =>
  Object.fromEntries(Object.entries(options).filter(([name]) => !OF_THE_BATCH.has(name)))

/** Compiling a schema takes milliseconds, and most batches are small. */
const compiled = new WeakMap<TSchema, Check>()

/** A check that fills in defaults, like the API. */
export function schemaCheck(schema: TSchema, root: string): Check {
  const known = compiled.get(schema)
  if (known) return known
  const check = compile(schema, root)
  compiled.set(schema, check)
  return check
}

function compile(schema: TSchema, root: string): Check {
  const validate = new Ajv({ useDefaults: true, coerceTypes: false, strict: false, verbose: true }).compile(schema)
  return value => {
    if (validate(value)) return null
    const { field, keyword, message } = describeFault(validate.errors as SchemaError[])
    return { field: excerpt(`${root}${field}`), keyword, message: excerpt(message, 500) }
  }
}

const lineOptions = (properties: Record<string, TSchema>) =>
  Type.Object(lineOptionsAmong<TSchema>(properties), { additionalProperties: false, required: [] })
const anyLineOptions = lineOptions(taskOptions.properties)
const lineOptionsOf = new WeakMap<JobKind, TSchema>()

/** @param job absent: options of any kind */
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
        field: excerpt(complaint.field),
        keyword: complaint.tooLarge ? 'maxLength' : 'kind',
        message: excerpt(complaint.message, 500),
      }
    )
  }
}

/** Text of the client for use in a message: storable and of bounded length. */
export const excerpt = (text: string, length = 100): string =>
  clean(text.length > length ? `${text.slice(0, length)}…` : text)

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !isRawNumber(value)

/** The model named in a task's options, with the provider if they name it separately. */
export const modelOf = ({ provider, model }: Record<string, unknown>): string | null =>
  typeof model !== 'string' ? null : typeof provider === 'string' ? `${provider}/${model}` : model
