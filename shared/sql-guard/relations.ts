import { ROW_FUNCTIONS, SYSTEM_COLUMNS } from './functions.ts'
import { refuse } from './refusal.ts'

/** The names of a query's columns, in order; null within: some name we do not know; null: we do not know how many. */
export type Columns = (string | null)[] | null

/** Something in FROM. */
export type Relation = {
  /** What qualifies its columns; null: nothing does. */
  name: string | null
  /** Of a table written without an alias, hence one that `schema.table.column` may mean. */
  schema: string | null
  columns: Columns
  /**
   * A table of which only the listed columns may be read: a name not in the list may exist all the same, and one in the
   * list may not.
   */
  hides: boolean
}

/** The relations of a query, then those of the queries around it. */
export type Levels = readonly (readonly Relation[])[]

export const isOpen = ({ columns, hides }: Relation) => !hides && (columns === null || columns.includes(null))
export const has = ({ columns }: Relation, name: string) => columns?.includes(name) ?? false

/** Refuses a reference to a column that is not, or may not be, one of those allowed. */
export function checkColumn(path: string[], levels: Levels): void {
  const name = path.at(-1)!
  if (SYSTEM_COLUMNS.has(name)) refuse('system_column', `The column ${path.join('.')} is a system column.`)
  if (path.length === 1) {
    checkBare(name, levels)
    return
  }
  const relation = find(path.slice(0, -1), levels)
  if (name === '*') {
    if (relation.hides) refuseStar(relation)
  } else if (!has(relation, name) && !isOpen(relation)) {
    refuse('unknown_column', `The column ${path.join('.')} is not in the list.`)
  } else if (relation.hides && ROW_FUNCTIONS.has(name)) {
    refuse('hidden_columns', `${path.join('.')} may be a function of the whole row; write ${name} without its table.`)
  }
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
      // Without a column of this name it is a row of what has this name, however far out.
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
      // Even where another table has columns that we do not know: it may not have this one.
      refuse('unknown_column', `The column ${name} is not in the list${open ? '; qualify it with its table' : ''}.`)
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
  return refuse('hidden_columns', `* would read all columns of ${name}; name those that are needed.`)
}

/** Both sides of USING must have the column. */
export function checkUsing(name: string, sides: readonly (readonly Relation[])[]): void {
  // A row cannot be meant here.
  for (const side of sides) checkColumn([name], [side.map(one => ({ ...one, name: null }))])
}

/** `AS name (a, b)`: gives the first columns new names. */
export function rename(columns: Columns, colnames: string[]): Columns {
  if (colnames.length === 0) return columns
  // Not knowing how many there are, we cannot say which names are left.
  return columns === null ? [...colnames, null] : [...colnames, ...columns.slice(colnames.length)]
}
