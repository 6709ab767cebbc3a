import { ROW_FUNCTIONS, SYSTEM_COLUMNS } from './functions.ts'
import { refuse } from './refusal.ts'

/** All columns of a table without listed columns. */
export type AllOf = { table: string }

/**
 * The names of a query's columns, in order. A null element: a column of unknown name. null: neither count nor names are
 * known.
 */
export type Columns = (string | AllOf | null)[] | null

/** An item of FROM. */
export type Relation = {
  /** The qualifier of its columns; null: none. */
  name: string | null
  /** The schema of a table without an alias, which `schema.table.column` may name. */
  schema: string | null
  /** The returned query omits the schema. */
  unqualified?: boolean
  /** A function whose rows may have several columns, so that its name may not be the name of a column. */
  isFunction?: boolean
  columns: Columns
  /** A table with listed columns. An unlisted column may exist, and a listed one may not. */
  hides: boolean
}

/** The relations of a query, then those of the outer queries. */
export type Levels = readonly (readonly Relation[])[]

export const isOpen = ({ columns, hides }: Relation) =>
  !hides && (columns === null || columns.some(one => typeof one !== 'string'))
export const has = ({ columns }: Relation, name: string) => columns?.includes(name) ?? false

/**
 * Refuses a reference to a column that is not certainly allowed.
 * @returns the relation of a qualified column; `mustHave`: the table in which the column must exist
 */
export function checkColumn(path: string[], levels: Levels): { relation: Relation; mustHave: string | null } | null {
  const name = path.at(-1)!
  if (SYSTEM_COLUMNS.has(name)) refuse('system_column', `The column ${path.join('.')} is a system column.`)
  if (path.length === 1) {
    checkBare(name, levels)
    return null
  }
  const relation = find(path.slice(0, -1), levels)
  let mustHave: string | null = null
  if (name === '*') {
    if (relation.hides) refuseStar(relation)
  } else if (!has(relation, name)) {
    if (!isOpen(relation)) refuse('unknown_column', `The column ${path.join('.')} is not in the list.`)
    mustHave = tableOf(relation, path)
  } else if (relation.hides && ROW_FUNCTIONS.has(name)) {
    refuse('hidden_columns', `${path.join('.')} may be a function of the whole row; write ${name} without its table.`)
  }
  return { relation, mustHave }
}

/**
 * The only table to which a qualified column can belong. If the column does not exist, Postgres calls a function of
 * that name with the whole row, so the table that must have the column must be known. An unqualified name never calls a
 * function.
 */
function tableOf({ columns }: Relation, path: string[]): string {
  const [only, ...more] = (columns ?? [null]).filter(one => typeof one !== 'string')
  if (only && more.length === 0) return only.table
  const name = path.at(-1)!
  return refuse('unknown_column', `${path.join('.')} may not be a column; write ${name} without its table.`)
}

function checkBare(name: string, levels: Levels): void {
  if (name === '*') {
    const hiding = levels[0]?.find(one => one.hides)
    if (hiding) refuseStar(hiding)
    return
  }
  let open = false
  for (const level of levels) {
    const having = level.filter(one => has(one, name))
    if (having.length > 0) {
      // If the column does not exist, the name means the row of a relation with this name in any outer query.
      if (
        having.every(one => one.hides) &&
        levels.some(one => one.some(({ hides, name: own }) => hides && own === name))
      )
        refuse('hidden_columns', `${name} may be a whole row; write ${having[0]!.name}.${name}.`)
      return
    }
    // `SELECT u FROM users u` is the whole row.
    open ||= level.some(one => isOpen(one) || one.name === name)
    if (level.some(one => one.hides && one.name === name)) {
      refuse('hidden_columns', `${name} as a value is a whole row; name its columns.`)
    }
    if (level.some(one => one.hides)) {
      // Refused even if another table has unknown columns, because that table may lack this one.
      const isFunction = level.some(one => one.isFunction && one.name === name)
      const remedy = isFunction ? `; name the column of the function: AS ${name}(value)` : '; qualify it with its table'
      refuse('unknown_column', `The column ${name} is not in the list${open ? remedy : ''}.`)
    }
  }
  if (!open) refuse('unknown_column', `The column ${name} is not in the list.`)
}

function find(qualifier: string[], levels: Levels): Relation {
  const [table, schema, ...more] = qualifier.toReversed()
  for (const level of levels) {
    const found = level.find(one => one.name === table && (schema === undefined || one.schema === schema))
    if (found && more.length === 0) return found
  }
  return refuse('unknown_table', `The table ${qualifier.join('.')} is not in FROM.`)
}

function refuseStar({ name }: Relation): never {
  return refuse('hidden_columns', `* would read all columns of ${name}; name the columns that are needed.`)
}

/** Refuses a USING column that is not allowed on both sides. */
export function checkUsing(name: string, sides: readonly (readonly Relation[])[]): void {
  // A name in USING cannot mean a row.
  for (const side of sides) checkColumn([name], [side.map(one => ({ ...one, name: null }))])
}

/** Applies `AS name (a, b)`, which renames the first columns. */
export function rename(columns: Columns, colnames: string[]): Columns {
  if (colnames.length === 0) return columns
  // Without the number of columns, the remaining names are unknown.
  return columns === null ? [...colnames, null] : [...colnames, ...columns.slice(colnames.length)]
}
