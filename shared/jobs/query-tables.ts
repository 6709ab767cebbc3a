import { type Static, Type } from 'typebox'
import { secretColumns } from '#shared/sql-guard/schema.ts'
import type { InputFault } from './define.ts'

/** The tables in the input of `query`: their schema and its rules. */

const MAX_TABLES = 100
const MAX_COLUMNS = 200
/** Maximum characters of JSON. */
const MAX_SCHEMA = 100_000
/** Maximum bytes of a name in Postgres, which cuts longer ones. */
const MAX_NAME = 63

const NAME = '[\\p{L}_][\\p{L}\\p{M}\\p{N}_$]*'
const description = Type.Optional(Type.String({ minLength: 1, maxLength: 1000 }))

const table = Type.Object(
  {
    name: Type.String({
      maxLength: 2 * MAX_NAME + 1,
      pattern: `^${NAME}(?:\\.${NAME})?$`,
      description: 'The name as Postgres stores it, `orders` or `sales.orders`. The query uses the same name.',
    }),
    description,
    columns: Type.Array(
      Type.Object(
        {
          name: Type.String({ maxLength: MAX_NAME, pattern: `^${NAME}$` }),
          type: Type.Optional(
            Type.String({ maxLength: 100, pattern: '^[^\\p{Cc}]+$', description: 'Such as `numeric(10,2)`.' }),
          ),
          description,
        },
        { additionalProperties: false },
      ),
      {
        minItems: 1,
        maxItems: MAX_COLUMNS,
        description:
          'The only columns that a query may read. All must exist: Postgres resolves the name of a missing column to something else, such as the whole row.',
      },
    ),
  },
  { additionalProperties: false },
)
type Table = Static<typeof table>

export const tablesSchema = Type.Object(
  { tables: Type.Array(table, { minItems: 1, maxItems: MAX_TABLES }) },
  { additionalProperties: false, description: 'The tables that a query may read.' },
)

export const columnsByTable = (tables: Table[]): Record<string, string[]> =>
  Object.fromEntries(tables.map(one => [one.name, one.columns.map(column => column.name)]))

/** Checks what `tablesSchema` cannot express; null: valid. */
export function tablesFault(schema: Static<typeof tablesSchema>): InputFault | null {
  if (JSON.stringify(schema).length > MAX_SCHEMA) {
    return { field: '/input/schema', message: `must have at most ${MAX_SCHEMA} characters of JSON`, tooLarge: true }
  }
  const fault = namesFault(schema.tables)
  if (fault) return fault
  const secret = secretColumns(columnsByTable(schema.tables))
  if (secret.length === 0) return null
  return {
    field: '/input/schema/tables',
    message: `must not contain names that look like secrets: ${secret.join(', ')}`,
  }
}

function namesFault(tables: Table[]): InputFault | null {
  const names = new Set<string>()
  for (const [t, { name, columns }] of tables.entries()) {
    const field = `/input/schema/tables/${t}`
    const fault = nameFault(`${field}/name`, name, names)
    if (fault) return fault
    if (/(?:^|\.)pg_|^information_schema\./i.test(name)) {
      return { field: `${field}/name`, message: `"${name}" is a system table, which no query may read` }
    }
    const seen = new Set<string>()
    for (const [c, column] of columns.entries()) {
      const columnFault = nameFault(`${field}/columns/${c}/name`, column.name, seen)
      if (columnFault) return columnFault
    }
  }
  return null
}

function nameFault(field: string, name: string, seen: Set<string>): InputFault | null {
  if (name.split('.').some(part => Buffer.byteLength(part) > MAX_NAME)) {
    return { field, message: `"${name}" is longer than ${MAX_NAME} bytes, the limit of Postgres` }
  }
  if (seen.has(name)) return { field, message: `"${name}" is described twice` }
  seen.add(name)
  return null
}
