import { BOUNDED } from './bounded.ts'
import {
  ESCAPE_FUNCTIONS,
  FUNCTIONS,
  MAX_PADDED,
  OPERATORS,
  PADDED_TYPES,
  SET_FUNCTIONS,
  SYNTAX_FUNCTIONS,
  TYPES,
  VALUE_FUNCTIONS,
} from './functions.ts'
import { type Fields, names, unwrap } from './parse.ts'
import { type RefusalCode, refuse } from './refusal.ts'
import { SHAPES } from './shapes.ts'

/** Maximum depth of the tree, because the walks recurse. */
const MAX_LEVELS = 250

const WRITES = /^(Insert|Update|Delete|Merge)Stmt$/

/** More precise codes than `not_allowed` for constructs that models and people use. */
const REFUSED_NODES: Record<string, [RefusalCode, string]> = {
  ParamRef: ['parameter', 'a parameter such as $1'],
  RangeTableFunc: ['table_function', 'XMLTABLE'],
  RangeTableSample: ['table_function', 'TABLESAMPLE'],
  JsonTable: ['table_function', 'JSON_TABLE'],
  XmlExpr: ['function_not_allowed', 'an XML function'],
  XmlSerialize: ['function_not_allowed', 'XMLSERIALIZE'],
  MergeSupportFunc: ['function_not_allowed', 'MERGE_ACTION'],
}

const REFUSED_FIELDS: Record<string, [RefusalCode, string]> = {
  'SelectStmt.intoClause': ['select_into', 'SELECT INTO'],
  'SelectStmt.lockingClause': ['locks', 'a locking clause such as FOR UPDATE'],
  'RangeFunction.is_rowsfrom': ['table_function', 'ROWS FROM'],
  'RangeFunction.coldeflist': ['table_function', 'a list of column definitions'],
  'WithClause.recursive': ['recursive', 'WITH RECURSIVE'],
}

/** Refuses a tree that contains anything not known to be harmless, whatever names it uses. */
export function checkTree(statement: Fields): void {
  const top = unwrap(statement)
  if (!top) refuse('not_sql', 'The query is empty.')
  if (WRITES.test(top.type)) refuse('writes', `The query is ${statementName(top.type)}, not a SELECT.`)
  if (top.type !== 'SelectStmt') refuse('not_a_select', `The query is ${statementName(top.type)}, not a SELECT.`)
  checkNode('SelectStmt', top.fields, 0)
}

function checkNode(type: string, fields: Fields, level: number): void {
  if (level > MAX_LEVELS) refuse('too_deep', `The query is nested more than ${MAX_LEVELS} levels deep.`)
  const shape = SHAPES.get(type)
  if (!shape) refuseNode(type)
  if (type === 'RangeFunction') checkTableFunction(fields)
  for (const [field, value] of Object.entries(fields)) {
    const kind = Object.hasOwn(shape, field) ? shape[field] : undefined
    if (kind === undefined) {
      const [code, what] = REFUSED_FIELDS[`${type}.${field}`] ?? ['not_allowed', `${field} of ${type}`]
      refuse(code, `The query uses ${what}, which is not allowed.`)
    }
    if (kind === 'value') {
      if (typeof value === 'object') refuse('not_allowed', `The query has an unknown ${field} in ${type}.`)
    } else if (kind === 'node') {
      for (const node of Array.isArray(value) ? value : [value]) {
        const one = unwrap(node)
        if (one) checkNode(one.type, one.fields, level + 1)
      }
    } else {
      checkNode(kind!, value as Fields, level + 1)
    }
  }
  CHECKS[type]?.(fields)
}

/** Checked before the parts, so that the refusal names a function in FROM. */
function checkTableFunction({ functions }: Fields): void {
  const { fields } = unwrap((functions as Fields[])[0])!
  const call = unwrap((fields.items as Fields[])[0])
  const parts = call?.type === 'FuncCall' ? names(call.fields.funcname) : []
  const [name] = parts
  if (parts.length !== 1 || !SET_FUNCTIONS.has(name!)) {
    const known = [...SET_FUNCTIONS.keys()].join(', ')
    refuse('table_function', `The query uses a function in FROM that is not allowed; allowed functions: ${known}.`)
  }
  const wrong = boundRefusal(name!, call!.fields)
  if (wrong !== null) refuse('table_function', `The function ${wrong}.`)
}

/** Why the size of a call's result is unbounded; null: it is bounded. */
function boundRefusal(name: string, call: Fields): string | null {
  const args = (call.args ?? []) as Fields[]
  // The checks identify arguments by position.
  if (args.some(one => unwrap(one)?.type === 'NamedArgExpr')) return `${name} is allowed without names of arguments`
  if (call.func_variadic && name !== 'format') return `${name} is allowed without VARIADIC`
  return BOUNDED.get(name)?.(args) ?? null
}

function refuseNode(type: string): never {
  if (WRITES.test(type)) refuse('writes', `The query contains ${statementName(type)}.`)
  const [code, what] = REFUSED_NODES[type] ?? ['not_allowed', type]
  return refuse(code, `The query uses ${what}, which is not allowed.`)
}

/** Checks beyond the shape of a node. */
const CHECKS: Record<string, (fields: Fields) => void> = {
  FuncCall(call) {
    const { funcname, funcformat } = call
    const parts = names(funcname)
    const name = parts.at(-1)!
    if (parts.length === 1 && FUNCTIONS.has(name)) return
    if (parts.length === 1 && (BOUNDED.has(name) || SET_FUNCTIONS.has(name))) {
      const wrong = boundRefusal(name, call)
      return wrong === null ? undefined : refuse('function_not_allowed', `The function ${wrong}.`)
    }
    const bySyntax = funcformat === 'COERCE_SQL_SYNTAX' && SYNTAX_FUNCTIONS.has(name)
    if (parts.length === 2 && parts[0] === 'pg_catalog' && (bySyntax || ESCAPE_FUNCTIONS.has(name))) return
    refuse('function_not_allowed', `The function ${parts.join('.')} is not allowed.`)
  },
  SQLValueFunction({ op }) {
    if (VALUE_FUNCTIONS.has(op as string)) return
    refuse('function_not_allowed', `The function ${String(op).replace('SVFOP_', '')} is not allowed.`)
  },
  A_Expr: ({ name }) => checkOperator(name),
  SubLink: ({ operName }) => operName && checkOperator(operName),
  SortBy: ({ useOp }) => useOp && checkOperator(useOp),
  TypeName({ names: list, typmods }) {
    const parts = names(list)
    const known = parts.length === 1 || (parts.length === 2 && parts[0] === 'pg_catalog')
    if (!known || !TYPES.has(parts.at(-1)!)) refuse('type_not_allowed', `The type ${parts.join('.')} is not allowed.`)
    if (!PADDED_TYPES.has(parts.at(-1)!)) return
    for (const node of (typmods ?? []) as Fields[]) {
      const length = unwrap(node)?.fields.ival as Fields | undefined
      if (length && Number(length.ival ?? 0) <= MAX_PADDED) continue
      refuse('type_not_allowed', `The type ${parts.join('.')} is allowed with a length of at most ${MAX_PADDED}.`)
    }
  },
  CollateClause({ collname }) {
    const parts = names(collname)
    if (parts.length > 1) refuse('not_allowed', `The collation ${parts.join('.')} is not allowed.`)
  },
  A_Indirection({ indirection }) {
    // (x).f can mean f(x), for any function f.
    for (const step of indirection as Fields[]) {
      if (unwrap(step)?.type === 'A_Indices') continue
      refuse('field_access', `The field access (…).${names([step])[0]} is not allowed.`)
    }
  },
}

function checkOperator(list: unknown): void {
  const parts = names(list)
  if (parts.length === 1 && OPERATORS.has(parts[0]!)) return
  refuse('operator_not_allowed', `The operator ${parts.join('.')} is not allowed.`)
}

/** AlterTableStmt becomes `ALTER TABLE`. */
const statementName = (type: string) =>
  type
    .replace(/Stmt$/, '')
    .replace(/(?<=[a-z])(?=[A-Z])/g, ' ')
    .toUpperCase()
