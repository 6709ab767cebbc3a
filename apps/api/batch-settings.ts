import { type Static, type TSchema, Type } from 'typebox'
import { schemaCheck } from '#shared/batches/checks.ts'
import { type Mapping, mappingSchema } from '#shared/batches/mapping.ts'
import { SluiceError } from '#shared/errors.ts'
import type { JobKind } from '#shared/jobs/define.ts'
import { type TaskOptions, taskOptions } from '#shared/jobs/options.ts'
import { findUnstorable, isTooDeep, MAX_DEPTH } from '#shared/text.ts'
import { dollarsInput, exactDollars } from './dollars.ts'
import { invalid } from './receive-file.ts'

const MAX_METADATA_BYTES = 16_384
const DEFAULT_WINDOW = '24h'
const MOST_HOURS = 168

const { columns, template, custom_id, delimiter } = mappingSchema.properties
const described = (schema: object) => (schema as { description?: string }).description ?? ''
const text = (description: string) => Type.Optional(Type.String({ maxLength: 100_000, description }))

/** What a native batch is told beside its lines: as fields of the form, or in the query. */
const settingsSchema = (kinds: string[]) =>
  Type.Object(
    {
      kind: Type.Enum(kinds, { description: 'Of all lines.' }),
      format: Type.Optional(
        Type.Enum(['jsonl', 'json', 'csv'], {
          description: `${described(mappingSchema.properties.format)} Else by the content type or the file's name.`,
        }),
      ),
      columns: text(`JSON. ${described(columns)}`),
      template,
      custom_id,
      delimiter,
      options: text('JSON: `options` of a task, for all lines; a line’s own win. `webhook_url` is told of the batch.'),
      metadata: text(`JSON: yours; given back as it is. At most ${MAX_METADATA_BYTES} bytes.`),
      completion_window: Type.Optional(
        Type.String({
          pattern: '^[1-9]\\d{0,2}h$',
          default: DEFAULT_WINDOW,
          description: `Hours, at most ${MOST_HOURS}: when it ends, whatever has become of it.`,
        }),
      ),
      max_cost_usd: Type.Optional(dollarsInput('The most that it may cost. Lines beyond it end as `on_budget` says.')),
      dry_run: Type.Optional(
        Type.Enum(['true', 'false'], { description: 'Only say what is wrong with it, and what it can cost.' }),
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

/** `guess`: the format, where they do not say. @throws invalid_request, invalid_text, field_too_large */
export type ReadSettings = (fields: Fields, guess: Mapping['format'] | null) => BatchSettings

export function createSettings(jobs: ReadonlyMap<string, JobKind>): { schema: Schema; read: ReadSettings } {
  const schema = settingsSchema([...jobs.keys()])
  return { schema, read: (fields, guess) => readSettings(schema, fields, guess) }
}

function readSettings(schema: Schema, fields: Fields, guess: Mapping['format'] | null): BatchSettings {
  const settings = { ...fields } as Static<Schema>
  check(schema, settings, '')
  const unstorable = findUnstorable(settings)
  if (unstorable !== null) throw new SluiceError('invalid_text', undefined, { context: { field: unstorable } })
  const format = settings.format ?? guess
  if (!format) throw invalid('format', 'is missing: neither the content type nor the name of the file tells it')
  const only = (['columns', 'template', 'custom_id', 'delimiter'] as const).find(name => settings[name] !== undefined)
  if (format !== 'csv' && only) throw invalid(only, 'is for CSV')
  const options = json(settings, 'options') ?? {}
  for (const [name, why] of Object.entries(NOT_FOR_BATCHES)) if (name in options) throw invalid(`options/${name}`, why)
  // Those of the lines have their defaults when they are read.
  check(taskOptions, { ...options }, '/options')
  const { webhook_url, priority, ...ofLines } = options as Partial<TaskOptions>
  const metadata = json(settings, 'metadata')
  if (metadata && Buffer.byteLength(settings.metadata!) > MAX_METADATA_BYTES)
    throw new SluiceError('field_too_large', undefined, {
      context: { field: '/metadata', limit_bytes: MAX_METADATA_BYTES },
    })
  const columns = json(settings, 'columns')
  if (columns && Object.values(columns).some(one => typeof one !== 'string'))
    throw invalid('columns', 'must be a JSON object of names of columns')
  const maxCostUsd = settings.max_cost_usd === undefined ? null : exactDollars(settings.max_cost_usd)
  if (settings.max_cost_usd !== undefined && maxCostUsd === null)
    throw invalid('max_cost_usd', 'is not an exact decimal')
  const completionWindow = settings.completion_window ?? DEFAULT_WINDOW
  const hours = Number.parseInt(completionWindow, 10)
  if (hours > MOST_HOURS) throw invalid('completion_window', `must be at most ${MOST_HOURS}h`)
  return {
    kind: settings.kind,
    mapping: {
      format,
      ...(columns && { columns: columns as Record<string, string> }),
      ...(settings.template !== undefined && { template: settings.template }),
      ...(settings.custom_id !== undefined && { custom_id: settings.custom_id }),
      ...(settings.delimiter !== undefined && { delimiter: settings.delimiter }),
    },
    options: ofLines,
    priority: priority ?? 'normal',
    webhookUrl: webhook_url,
    metadata,
    completionWindow,
    windowSeconds: hours * 3600,
    maxCostUsd,
    dryRun: settings.dry_run === 'true',
  }
}

function json(settings: Record<string, unknown>, name: string): Record<string, unknown> | null {
  const text = settings[name] as string | undefined
  if (text === undefined) return null
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw invalid(name, 'is not valid JSON')
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(name, 'must be a JSON object')
  if (isTooDeep(value)) throw invalid(name, `is nested deeper than ${MAX_DEPTH} levels`)
  const unstorable = findUnstorable(value)
  if (unstorable !== null)
    throw new SluiceError('invalid_text', undefined, { context: { field: `/${name}${unstorable}` } })
  return value as Record<string, unknown>
}

const NOT_FOR_BATCHES = {
  deadline_seconds: 'is not for batches: completion_window says when one ends',
  stream: 'is not for batches',
  user_id: 'is not for batches',
}

/** @throws invalid_request, naming the first field that is wrong */
function check(schema: TSchema, value: unknown, root: string): void {
  const fault = schemaCheck(schema, root)(value)
  if (fault) throw invalid(fault.field.replace(/^\//, ''), fault.message)
}

const BY_TYPE: Record<string, Mapping['format']> = {
  'text/csv': 'csv',
  'application/json': 'json',
  'application/jsonl': 'jsonl',
  'application/x-ndjson': 'jsonl',
  'application/x-jsonlines': 'jsonl',
}
export const RAW_TYPES = Object.keys(BY_TYPE)
export const formatOfType = (type: string): Mapping['format'] | null => BY_TYPE[type.split(';')[0]!.trim()] ?? null

const BY_ENDING: Record<string, Mapping['format']> = { csv: 'csv', json: 'json', jsonl: 'jsonl', ndjson: 'jsonl' }
export const formatOfName = (name: string): Mapping['format'] | null =>
  BY_ENDING[/\.(\w+)$/.exec(name)?.[1]?.toLowerCase() ?? ''] ?? null
