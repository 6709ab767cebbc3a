import { type Fields, names, unwrap } from './parse.ts'
import { refuse } from './refusal.ts'
import { type Columns, checkColumn, checkUsing, has, type Levels, type Relation, rename } from './relations.ts'

/** Column lists by the name of the table, `table` or `schema.table`, as Postgres stores it; an empty list: any column. */
export type Tables = Record<string, readonly string[]>

/** A GROUP BY that names an output column: the node to be replaced by the column's position. */
export type Ordinal = { node: Fields; position: number }

type Context = { tables: Tables; used: Set<string>; ordinals: Ordinal[] }
type Ctes = ReadonlyMap<string, Columns>

/**
 * Resolves every table and column as Postgres would, in a tree that `checkTree` has passed. Returns the tables that
 * are read, and what to replace in GROUP BY.
 */
export function checkScope(statement: Fields, tables: Tables): { used: string[]; ordinals: Ordinal[] } {
  const context: Context = { tables, used: new Set(), ordinals: [] }
  query(statement.SelectStmt as Fields, [], new Map(), context)
  return { used: [...context.used], ordinals: context.ordinals }
}

/** Checks a SELECT within `outer`; returns the names of its columns. */
function query(select: Fields, outer: Levels, outerCtes: Ctes, context: Context): Columns {
  const ctes = new Map(outerCtes)
  for (const node of list((select.withClause as Fields | undefined)?.ctes)) {
    const { ctename, aliascolnames, ctequery } = node.fields
    // One sees those before it, not itself: its own name still means the table.
    const columns = subquery(ctequery, outer, ctes, context)
    ctes.set(ctename as string, rename(columns, names(aliascolnames)))
  }
  if (select.larg) {
    const columns = query(select.larg as Fields, outer, ctes, context)
    query(select.rarg as Fields, outer, ctes, context)
    const result: Relation = { name: null, schema: null, columns, hides: false }
    for (const part of [select.sortClause, select.limitCount, select.limitOffset]) {
      expression(part, [[result], ...outer], ctes, context)
    }
    return columns
  }
  const relations: Relation[] = []
  for (const node of (select.fromClause ?? []) as Fields[]) {
    relations.push(...fromItem(node, relations, outer, ctes, context))
  }
  const levels: Levels = [relations, ...outer]
  const targets = list(select.targetList)
  const columns = valuesLists(select) ?? outputs(targets, relations)
  const called = columns ?? targets.map(({ fields }) => fields.name)
  for (const part of EXPRESSIONS) expression(select[part], levels, ctes, context)
  group(select.groupClause, levels, ctes, context, targets)
  // Both look among the output columns first.
  for (const node of [...list(select.distinctClause), ...list(select.sortClause)]) {
    const inner = node.type === 'SortBy' ? unwrap(node.fields.node)! : node
    const name = bareName(inner)
    if (name === null || !called.includes(name)) expression({ [inner.type]: inner.fields }, levels, ctes, context)
  }
  return columns
}

/** Not those that may name an output column. */
const EXPRESSIONS = [
  'targetList',
  'valuesLists',
  'whereClause',
  'havingClause',
  'windowClause',
  'limitCount',
  'limitOffset',
] as const

const valuesLists = (select: Fields): Columns =>
  select.valuesLists ? list(list(select.valuesLists)[0]?.fields.items).map((_, i) => `column${i + 1}`) : null

/** The relations that an item of FROM brings in; `before`: those to its left, which LATERAL sees. */
function fromItem(item: Fields, before: Relation[], outer: Levels, ctes: Ctes, context: Context): Relation[] {
  const { type, fields } = unwrap(item)!
  const { aliasname, colnames } = (fields.alias ?? {}) as { aliasname?: string; colnames?: unknown }
  const renamed = names(colnames)
  if (type === 'RangeVar') return [table(fields, aliasname ?? null, renamed, ctes, context)]
  if (type === 'RangeSubselect') {
    const visible = fields.lateral ? [before, ...outer] : outer
    const columns = rename(subquery(fields.subquery, visible, ctes, context), renamed)
    return [{ name: aliasname ?? null, schema: null, columns, hides: false }]
  }
  if (type !== 'JoinExpr') refuse('not_allowed', `The query uses ${type} in FROM, which is not allowed.`)
  const left = fromItem(fields.larg as Fields, before, outer, ctes, context)
  const right = fromItem(fields.rarg as Fields, [...before, ...left], outer, ctes, context)
  const both = [...left, ...right]
  const hides = both.some(one => one.hides)
  if (fields.isNatural && hides) {
    refuse('hidden_columns', 'NATURAL JOIN compares columns that are not named; join with ON or USING.')
  }
  const using = names(fields.usingClause)
  for (const name of using) checkUsing(name, [left, right])
  expression(fields.quals, [both, ...outer], ctes, context)
  if (aliasname !== undefined) {
    if (renamed.length > 0 && hides) refuseRenaming(aliasname)
    // Renaming is by position, which USING changes.
    const known = renamed.length > 0 ? null : both.flatMap(one => one.columns ?? [null])
    return [{ name: aliasname, schema: null, columns: rename(known, renamed), hides }]
  }
  const alias = (fields.join_using_alias as Fields | undefined)?.aliasname as string | undefined
  return alias === undefined ? both : [...both, { name: alias, schema: null, columns: using, hides: false }]
}

function table(fields: Fields, alias: string | null, renamed: string[], ctes: Ctes, context: Context): Relation {
  const name = fields.relname as string
  const schema = (fields.schemaname as string | undefined) ?? null
  if (schema === null && ctes.has(name)) {
    return { name: alias ?? name, schema: null, columns: rename(ctes.get(name)!, renamed), hides: false }
  }
  const key = schema === null ? name : `${schema}.${name}`
  // An unqualified pg_… is looked for in pg_catalog before anything else.
  if (/^pg_/i.test(schema ?? name) || /^pg_/i.test(name) || schema === 'information_schema') {
    refuse('system_table', `${key} is a system table.`)
  }
  // A quoted name with a dot in it is not `schema.table`.
  const dotted = name.includes('.') || schema?.includes('.')
  if (dotted || !Object.hasOwn(context.tables, key)) refuse('unknown_table', `The table ${key} is not in the list.`)
  context.used.add(key)
  const allowed = context.tables[key]!
  const hides = allowed.length > 0
  // By position, and nobody knows here at which position the hidden ones stand.
  if (hides && renamed.length > 0) refuseRenaming(key)
  const columns = hides ? [...allowed] : rename(null, renamed)
  return { name: alias ?? name, schema: alias === null ? schema : null, columns, hides }
}

const refuseRenaming = (name: string) =>
  refuse('hidden_columns', `A list of new column names for ${name} could rename columns that are not in the list.`)

/** Checks what is in an expression, or several: columns, and queries within. */
function expression(node: unknown, levels: Levels, ctes: Ctes, context: Context): void {
  if (typeof node !== 'object' || node === null) return
  for (const [key, value] of Object.entries(node)) {
    if (key === 'ColumnRef') checkColumn(names(value.fields), levels)
    else if (key === 'SelectStmt') query(value, levels, ctes, context)
    else expression(value, levels, ctes, context)
  }
}

const subquery = (node: unknown, outer: Levels, ctes: Ctes, context: Context) =>
  query((node as Fields).SelectStmt as Fields, outer, ctes, context)

/**
 * GROUP BY looks among the columns of FROM first. So `count(*) AS password … GROUP BY password` would count by a hidden
 * column of that name; its position instead of the name says what was meant.
 */
function group(node: unknown, levels: Levels, ctes: Ctes, context: Context, targets: Node[]): void {
  for (const wrapped of (node ?? []) as Fields[]) {
    const one = unwrap(wrapped)
    if (!one) continue
    if (one.type === 'GroupingSet') group(one.fields.content, levels, ctes, context, targets)
    else if (one.type === 'RowExpr' && one.fields.row_format === 'COERCE_IMPLICIT_CAST')
      group(one.fields.args, levels, ctes, context, targets)
    else {
      const name = bareName(one)
      const i = name === null ? -1 : targets.findIndex(({ fields }) => fields.name === name)
      const relations = levels[0]!
      if (i < 0 || relations.some(relation => has(relation, name!))) {
        expression(wrapped, levels, ctes, context)
      } else if (relations.some(relation => relation.hides)) {
        if (targets.slice(0, i).some(isStar)) refuse('unknown_column', `GROUP BY ${name} is not a column of a table.`)
        context.ordinals.push({ node: wrapped, position: i + 1 })
      }
    }
  }
}

type Node = { type: string; fields: Fields }

const list = (nodes: unknown): Node[] => ((nodes ?? []) as Fields[]).flatMap(node => unwrap(node) ?? [])

function bareName({ type, fields }: Node): string | null {
  const path = type === 'ColumnRef' ? names(fields.fields) : []
  return path.length === 1 ? path[0]! : null
}

function isStar({ fields }: Node): boolean {
  const value = unwrap(fields.val)
  return value?.type === 'ColumnRef' && names(value.fields.fields).at(-1) === '*'
}

/** The names of the output columns, where they are plain to see. */
function outputs(targets: Node[], relations: Relation[]): Columns {
  const columns: Columns = []
  for (const { fields } of targets) {
    const value = unwrap(fields.val)
    const path = value?.type === 'ColumnRef' ? names(value.fields.fields) : []
    if (path.at(-1) === '*') {
      // One relation only: the order of the columns of a join is a matter of USING.
      const [only, ...more] = path.length === 1 ? relations : relations.filter(one => one.name === path.at(-2))
      if (!only?.columns || more.length > 0) return null
      columns.push(...only.columns)
    } else {
      const called = value?.type === 'FuncCall' ? names(value.fields.funcname).at(-1) : path.at(-1)
      columns.push((fields.name as string | undefined) ?? called ?? null)
    }
  }
  return columns
}
