import { SET_FUNCTIONS } from './functions.ts'
import { outputName } from './output-name.ts'
import { type Fields, names, unwrap } from './parse.ts'
import { refuse } from './refusal.ts'
import { type Columns, checkColumn, checkUsing, has, type Levels, type Relation, rename } from './relations.ts'

/** Column lists by table, `table` or `schema.table`, as Postgres stores the names. An empty list: any column. */
export type Tables = Record<string, readonly string[]>

/** A GROUP BY item that names an output column, and the position that replaces it. */
export type Ordinal = { node: Fields; position: number }

/** A RangeVar or ColumnRef that is returned without its schema. */
export type Unqualified = { type: 'RangeVar' | 'ColumnRef'; fields: Fields }

/** Differences between the returned query and the checked one. */
export type Changes = { ordinals: Ordinal[]; unqualified: Unqualified[] }

type Context = Changes & { tables: Tables; columns: Map<string, Set<string>> }
type Ctes = ReadonlyMap<string, Columns>

/**
 * Resolves every table and column as Postgres does, in a tree that passed `checkTree`.
 * @returns `columns`: for each table that is read, the columns that must exist
 */
export function checkScope(statement: Fields, tables: Tables): Changes & { columns: Tables } {
  const context: Context = { tables, columns: new Map(), ordinals: [], unqualified: [] }
  query(statement.SelectStmt as Fields, [], new Map(), context)
  const { ordinals, unqualified } = context
  const columns = Object.fromEntries(Array.from(context.columns, ([table, names]) => [table, [...names]]))
  return { ordinals, unqualified, columns }
}

/** Checks a SELECT within the outer queries, and returns the names of its columns. */
function query(select: Fields, outer: Levels, outerCtes: Ctes, context: Context): Columns {
  const ctes = new Map(outerCtes)
  for (const node of list((select.withClause as Fields | undefined)?.ctes)) {
    const { ctename, aliascolnames, ctequery } = node.fields
    // A CTE sees the previous ones but not itself: within it, its name means the table.
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
  const called: unknown[] = columns ?? targets.map(({ fields }) => fields.name)
  for (const part of EXPRESSIONS) expression(select[part], levels, ctes, context)
  group(select.groupClause, levels, ctes, context, targets)
  // DISTINCT ON and ORDER BY look among the output columns first.
  for (const node of [...list(select.distinctClause), ...list(select.sortClause)]) {
    const inner = node.type === 'SortBy' ? unwrap(node.fields.node)! : node
    const name = bareName(inner)
    if (name === null || !called.includes(name)) expression({ [inner.type]: inner.fields }, levels, ctes, context)
  }
  return columns
}

/** The parts of a SELECT that cannot name an output column. */
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

/** The relations of an item of FROM. `before`: the relations to its left, which LATERAL sees. */
function fromItem(item: Fields, before: Relation[], outer: Levels, ctes: Ctes, context: Context): Relation[] {
  const { type, fields } = unwrap(item)!
  const { aliasname, colnames } = (fields.alias ?? {}) as { aliasname?: string; colnames?: unknown }
  const renamed = names(colnames)
  if (type === 'RangeVar') return [table(fields, aliasname ?? null, renamed, ctes, context)]
  if (type === 'RangeFunction') {
    expression(fields.functions, [before, ...outer], ctes, context)
    return [functionRelation(fields, aliasname, renamed)]
  }
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
    // Renaming works by position, and USING changes the positions.
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
  const key = keyOf(schema, name, ctes, context)
  const unqualified = schema !== null && key === name
  if (unqualified) context.unqualified.push({ type: 'RangeVar', fields })
  // Postgres looks up an unqualified pg_… in pg_catalog first.
  if (/^pg_/i.test(schema ?? name) || /^pg_/i.test(name) || schema === 'information_schema') {
    refuse('system_table', `${key} is a system table.`)
  }
  // A quoted name with a dot in it is not `schema.table`.
  const dotted = name.includes('.') || schema?.includes('.')
  if (dotted || !Object.hasOwn(context.tables, key)) refuse('unknown_table', `The table ${key} is not in the list.`)
  const allowed = context.tables[key]!
  if (!context.columns.has(key)) context.columns.set(key, new Set(allowed))
  const hides = allowed.length > 0
  // Renaming works by position, and the positions of unlisted columns are unknown.
  if (hides && renamed.length > 0) refuseRenaming(key)
  // A renamed column no longer has its own name.
  const columns = hides ? [...allowed] : rename(renamed.length > 0 ? null : [{ table: key }], renamed)
  return { name: alias ?? name, schema: alias === null ? schema : null, columns, hides, unqualified }
}

/**
 * The listed name of a table. `public.orders` is `orders` if only that is listed; the returned query then uses the
 * listed name, so that both mean the same table.
 */
function keyOf(schema: string | null, name: string, ctes: Ctes, { tables }: Context): string {
  if (schema === null) return name
  const key = `${schema}.${name}`
  if (schema !== 'public' || Object.hasOwn(tables, key) || !Object.hasOwn(tables, name)) return key
  if (ctes.has(name)) refuse('unknown_table', `The table ${key} has the name of a CTE; give the CTE another.`)
  return name
}

/** The relation of a function in FROM that passed `checkTree`. */
function functionRelation({ functions, ordinality }: Fields, alias: string | undefined, renamed: string[]): Relation {
  const { fields } = unwrap((functions as Fields[])[0])!
  const called = names(unwrap((fields.items as Fields[])[0])!.fields.funcname)[0]!
  const kind = SET_FUNCTIONS.get(called)!
  const name = alias ?? called
  const more = ordinality ? ['ordinality'] : []
  // If the elements are rows, further columns follow the named ones.
  if (kind === 'element') return { name, schema: null, columns: renamed, hides: false, isFunction: true }
  const columns = rename([...(kind === 'alias' ? [name] : kind), ...more], renamed)
  return { name, schema: null, columns, hides: false, isFunction: kind !== 'alias' }
}

const refuseRenaming = (name: string) =>
  refuse('hidden_columns', `A list of new column names for ${name} could rename columns that are not in the list.`)

/** Checks the columns and subqueries of one or more expressions. */
function expression(node: unknown, levels: Levels, ctes: Ctes, context: Context): void {
  if (typeof node !== 'object' || node === null) return
  for (const [key, value] of Object.entries(node)) {
    if (key === 'ColumnRef') column(value, levels, context)
    else if (key === 'SelectStmt') query(value, levels, ctes, context)
    else expression(value, levels, ctes, context)
  }
}

function column(fields: Fields, levels: Levels, context: Context): void {
  const path = names(fields.fields)
  const found = checkColumn(path, levels)
  if (!found) return
  if (found.mustHave !== null) context.columns.get(found.mustHave)!.add(path.at(-1)!)
  if (path.length === 3 && found.relation.unqualified) context.unqualified.push({ type: 'ColumnRef', fields })
}

const subquery = (node: unknown, outer: Levels, ctes: Ctes, context: Context) =>
  query((node as Fields).SelectStmt as Fields, outer, ctes, context)

/**
 * GROUP BY looks among the columns of FROM first. `count(*) AS password … GROUP BY password` would group by a hidden
 * column of that name, so the position of the output column replaces the name.
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

/** The names of the output columns; null: not all are known. */
function outputs(targets: Node[], relations: Relation[]): Columns {
  const columns: Columns = []
  for (const { fields } of targets) {
    const value = unwrap(fields.val)
    const path = value?.type === 'ColumnRef' ? names(value.fields.fields) : []
    if (path.at(-1) === '*') {
      // Only for a single relation, because USING changes the order of the columns of a join.
      const [only, ...more] = path.length === 1 ? relations : relations.filter(one => one.name === path.at(-2))
      if (!only?.columns || more.length > 0) return null
      columns.push(...only.columns)
    } else {
      columns.push((fields.name as string | undefined) ?? outputName(value))
    }
  }
  return columns
}
