import { type Static, type TSchema, Type } from 'typebox'
import { isObject, schemaCheck } from '#shared/batches/checks.ts'
import { type Mapping, mappingSchema } from '#shared/batches/mapping.ts'
import { SluiceError } from '#shared/errors.ts'
import type { JobKind } from '#shared/jobs/define.ts'
import { type TaskOptions, taskOptions } from '#shared/jobs/options.ts'
import { parseJson } from '#shared/json/lossless.ts'
import { faultSentence } from '#shared/json/schema-fault.ts'
import { dollarsInput, readDollars } from '../http/dollars.ts'
import { invalid } from '../http/receive-file.ts'
import { assertDepth, assertStorable, MAX_METADATA_BYTES } from '../http/stored-values.ts'

const DEFAULT_WINDOW = '24h'
const MAX_HOURS = 168

const { columns, template, custom_id, delimiter } = mappingSchema.properties
const described = (schema: object) => (schema as { description?: string }).description ?? ''
const text = (description: string) => Type.Optional(Type.String({ maxLength: 100_000, description }))

/** The settings of a native batch: fields of the form, or query parameters. */
const settingsSchema = (kinds: string[]) =>
  Type.Object(
    {
      kind: Type.Enum(kinds, { description: 'The kind of all lines.' }),
      format: Type.Optional(
        Type.Enum(['jsonl', 'json', 'csv'], {
          description: `${described(mappingSchema.properties.format)} Default: from the content type or the file name.`,
        }),
      ),
      columns: text(`JSON. ${described(columns)}`),
      template,
      custom_id,
      delimiter,
      options: text(
        'JSON: the `options` of a task, for all lines. Options of a line take precedence. `webhook_url` is notified when the batch ends.',
      ),
      metadata: text(`JSON: your own data, returned unchanged. At most ${MAX_METADATA_BYTES} bytes.`),
      completion_window: Type.Optional(
        Type.String({
          pattern: '^[1-9]\\d{0,2}h$',
          'x-rule': `whole hours from 1h to ${MAX_HOURS}h, such as "24h"`,
          default: DEFAULT_WINDOW,
          description: `Hours, at most ${MAX_HOURS}. Lines that have not ended by then expire.`,
        }),
      ),
      max_cost_usd: Type.Optional(
        dollarsInput('The maximum cost of the batch. `on_budget` decides what happens to lines beyond it.'),
      ),
      dry_run: Type.Optional(
        Type.Enum(['true', 'false'], { description: 'Only check the lines and compute the maximum cost.' }),
      ),
    },
    { additionalProperties: false, required: ['kind'] },
  )

export type BatchSettings = {
  kind: string
  mapping: Mapping
  options: Partial<TaskOptions>
  priority: string
  webhookUrl: string | undefined
  metadata: Record<string, unknown> | null
  completionWindow: string
  windowSeconds: number
  maxCostUsd: string | null
  dryRun: boolean
}

type Fields = Readonly<Record<string, string>>

type Schema = ReturnType<typeof settingsSchema>

/** @param guess the format if the settings do not name one @throws SluiceError invalid_request, invalid_text, field_too_large */
export type ReadSettings = (fields: Fields, guess: Mapping['format'] | null) => BatchSettings

export function createSettings(jobs: ReadonlyMap<string, JobKind>): { schema: Schema; read: ReadSettings } {
  const schema = settingsSchema([...jobs.keys()])
  return { schema, read: (fields, guess) => readSettings(schema, fields, guess) }
}

function readSettings(schema: Schema, fields: Fields, guess: Mapping['format'] | null): BatchSettings {
  const settings = { ...fields } as Static<Schema>
  if (settings.kind === undefined) throw kindMissing(schema)
  check(schema, settings, '')
  assertStorable(settings)
  const format = settings.format ?? guess
  if (!format)
    throw invalid(
      'format',
      'is missing, and neither the content type nor the file name implies it; it must be one of jsonl, json, csv',
    )
  const csvOnly = (['columns', 'template', 'custom_id', 'delimiter'] as const).find(
    name => settings[name] !== undefined,
  )
  if (format !== 'csv' && csvOnly) throw invalid(csvOnly, 'requires the format csv')
  const options = jsonField(settings, 'options') ?? {}
  for (const [name, rule] of Object.entries(NOT_FOR_BATCHES))
    if (name in options) throw invalid(`options/${name}`, rule)
  // A copy, because the check fills in defaults, which lines get when they are read.
  check(taskOptions, { ...options }, '/options')
  const { webhook_url, priority, ...lineOptions } = options as Partial<TaskOptions>
  const metadata = jsonField(settings, 'metadata')
  if (metadata && Buffer.byteLength(settings.metadata!) > MAX_METADATA_BYTES)
    throw new SluiceError('field_too_large', undefined, {
      context: { field: '/metadata', limit_bytes: MAX_METADATA_BYTES },
    })
  const columns = jsonField(settings, 'columns')
  if (columns && Object.values(columns).some(one => typeof one !== 'string'))
    throw invalid('columns', 'must be a JSON object whose values are names of columns')
  const completionWindow = settings.completion_window ?? DEFAULT_WINDOW
  const hours = Number.parseInt(completionWindow, 10)
  if (hours > MAX_HOURS) throw invalid('completion_window', `must be at most ${MAX_HOURS}h`)
  return {
    kind: settings.kind,
    mapping: {
      format,
      ...(columns && { columns: columns as Record<string, string> }),
      ...(settings.template !== undefined && { template: settings.template }),
      ...(settings.custom_id !== undefined && { custom_id: settings.custom_id }),
      ...(settings.delimiter !== undefined && { delimiter: settings.delimiter }),
    },
    options: lineOptions,
    priority: priority ?? 'normal',
    webhookUrl: webhook_url,
    metadata,
    completionWindow,
    windowSeconds: hours * 3600,
    maxCostUsd: settings.max_cost_usd === undefined ? null : readDollars(settings.max_cost_usd, '/max_cost_usd'),
    dryRun: settings.dry_run === 'true',
  }
}

/** A field that holds a JSON object; null: it is absent. */
function jsonField(settings: Record<string, unknown>, name: string): Record<string, unknown> | null {
  const text = settings[name] as string | undefined
  if (text === undefined) return null
  let value: unknown
  try {
    value = name === 'metadata' ? parseJson(text) : JSON.parse(text)
  } catch {
    throw invalid(name, 'must be valid JSON')
  }
  if (!isObject(value)) throw invalid(name, 'must be a JSON object')
  assertDepth(value, `/${name}`)
  assertStorable(value, `/${name}`)
  return value
}

const kindMissing = (schema: Schema) => {
  const allowed = (schema.properties.kind as { enum?: string[] }).enum ?? []
  const detail = `\`kind\` is missing: the job kind of all lines, one of ${allowed.join(', ')}. For files of OpenAI's batch API, use POST /v1/files and POST /v1/batches.`
  return new SluiceError('invalid_request', detail, { context: { field: '/kind', rule: 'required', allowed } })
}

const NOT_FOR_BATCHES = {
  deadline_seconds: 'is not for batches: use `completion_window` instead',
  stream: 'is not for batches',
  user_id: 'is not for batches',
}

/** @throws SluiceError invalid_request, unknown_field, naming the first invalid field */
function check(schema: TSchema, value: unknown, root: string): void {
  const fault = schemaCheck(schema, root)(value)
  if (!fault) return
  const code = fault.keyword === 'additionalProperties' ? 'unknown_field' : 'invalid_request'
  throw new SluiceError(code, `${faultSentence(fault)}.`, { context: { field: fault.field, rule: fault.keyword } })
}

const BY_TYPE: Record<string, Mapping['format']> = {
  'text/csv': 'csv',
  'application/json': 'json',
  'application/jsonl': 'jsonl',
  'application/x-ndjson': 'jsonl',
  'application/x-jsonlines': 'jsonl',
}
export const RAW_TYPES = Object.keys(BY_TYPE)
export const formatOfType = (type: string): Mapping['format'] | null =>
  BY_TYPE[type.split(';')[0]!.trim().toLowerCase()] ?? null

const BY_EXTENSION: Record<string, Mapping['format']> = { csv: 'csv', json: 'json', jsonl: 'jsonl', ndjson: 'jsonl' }
export const formatOfName = (name: string): Mapping['format'] | null =>
  BY_EXTENSION[/\.(\w+)$/.exec(name)?.[1]?.toLowerCase() ?? ''] ?? null
