import { type Static, Type } from 'typebox'
import type { JobKind } from '#shared/jobs/define.ts'
import { parseJson } from '#shared/json/lossless.ts'
import { excerpt } from './checks.ts'

/** Maps the records of a native batch to inputs of its kind. */
export const mappingSchema = Type.Object(
  {
    format: Type.Enum(['jsonl', 'json', 'csv'], {
      description:
        'Records are JSON lines, the elements of a JSON array, or the rows of a CSV with a header. A record of JSON is an input, or `{input, custom_id?, options?, metadata?}` if it has a field `input`.',
    }),
    columns: Type.Optional(
      Type.Record(Type.String(), Type.String(), {
        description: 'CSV: the column that each field of the input is taken from. Without it, the column of its name.',
      }),
    ),
    template: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 100_000,
        description: 'CSV: the prompt, with `{{column}}` where a row has something of its own.',
      }),
    ),
    custom_id: Type.Optional(
      Type.String({ description: 'CSV: the column with the client’s name for a row; `custom_id` if there is one.' }),
    ),
    delimiter: Type.Optional(Type.Enum([',', ';', '\t', '|'], { description: 'CSV: between cells; a comma.' })),
  },
  { additionalProperties: false },
)
export type Mapping = Static<typeof mappingSchema>

type Row = (cells: readonly string[]) => { input: Record<string, unknown>; custom_id: string | null }

/** The field that a template fills. */
const TEMPLATE_FIELD = 'prompt'
const CUSTOM_ID = 'custom_id'

/** Creates a function from rows of a table to records. @returns `wrong` if the mapping does not match the header or the kind */
export function planRows(header: readonly string[], mapping: Mapping, job: JobKind): Row | { wrong: string } {
  const { columns, template, custom_id } = mapping
  const fields = job.input.properties as Record<string, { type?: string }>
  let wrong: string | null = null

  function column(name: string): number {
    const at = header.indexOf(name)
    if (at === -1) wrong ??= `There is no column "${excerpt(name)}"; there are ${listed(header)}.`
    else if (header.lastIndexOf(name) !== at) wrong ??= `There are two columns "${excerpt(name)}".`
    return at
  }
  function known(field: string): string {
    if (!Object.hasOwn(fields, field))
      wrong ??= `${job.kind} has no field "${excerpt(field)}"; it has ${listed(Object.keys(fields))}.`
    return field
  }

  const idAt = custom_id !== undefined || header.includes(CUSTOM_ID) ? column(custom_id ?? CUSTOM_ID) : -1
  // With a template, columns are used by the template only.
  const byName = template === undefined ? header.filter(name => Object.hasOwn(fields, name)) : []
  const wanted = columns ? Object.entries(columns) : byName.map(name => [name, name] as const)
  const taken = wanted.map(([field, name]) => ({ field: known(field), at: column(name) }))
  const parts = template === undefined ? null : split(template, column)
  if (parts) {
    known(TEMPLATE_FIELD)
    if (parts.length === 1) wrong ??= 'The template names no column, as {{column}}.'
    if (taken.some(one => one.field === TEMPLATE_FIELD)) wrong ??= 'Both template and columns say what the prompt is.'
  } else if (taken.length === 0) {
    wrong ??= `No column is named as a field of ${job.kind}: name it in columns, or give a template.`
  }
  if (wrong !== null) return { wrong }

  return cells => {
    const given = taken.flatMap(({ field, at }) => {
      const cell = cells[at]!
      return cell === '' ? [] : [[field, fields[field]?.type === 'string' ? cell : asJson(cell)] as const]
    })
    if (parts)
      given.push([TEMPLATE_FIELD, parts.map(part => (typeof part === 'string' ? part : cells[part]!)).join('')])
    return { input: Object.fromEntries(given), custom_id: idAt === -1 || cells[idAt] === '' ? null : cells[idAt]! }
  }
}

/** Texts and column numbers, alternating. */
const split = (template: string, column: (name: string) => number): (string | number)[] =>
  template.split(/\{\{([^{}]*)\}\}/).map((part, i) => (i % 2 === 1 ? column(part.trim()) : part))

/** Cells for fields other than strings contain JSON. Other text is left to the schema of the kind, which rejects it. */
function asJson(cell: string): unknown {
  try {
    return parseJson(cell)
  } catch {
    return cell
  }
}

const listed = (names: readonly string[]): string =>
  `${names
    .slice(0, 20)
    .map(name => excerpt(name, 50))
    .join(', ')}${names.length > 20 ? ', …' : ''}`
