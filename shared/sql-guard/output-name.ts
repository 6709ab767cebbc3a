import { type Fields, names, unwrap } from './parse.ts'

type Node = { type: string; fields: Fields }
/** `isSure`: a cast around the expression keeps the name. */
type Named = { name: string; isSure: boolean }

const FIXED: Record<string, string> = {
  CoalesceExpr: 'coalesce',
  RowExpr: 'row',
  A_ArrayExpr: 'array',
  GroupingFunc: 'grouping',
}
/** Subqueries that are named after their type, not after the selected column. */
const SUBLINKS: Record<string, string> = { EXISTS_SUBLINK: 'exists', ARRAY_SUBLINK: 'array' }

/** The name that Postgres gives to an output column without AS (`FigureColname` in its parse_target.c). */
export const outputName = (node: Node | null): string => named(node)?.name ?? '?column?'

function named(node: Node | null): Named | null {
  if (!node) return null
  const { type, fields } = node
  const of = (one: unknown) => (one === undefined ? null : named(unwrap(one)))
  const sure = (name: string | undefined) => (name === undefined ? null : { name, isSure: true })
  switch (type) {
    case 'ColumnRef':
      return sure(names(fields.fields).findLast(one => one !== '*'))
    case 'FuncCall':
      return sure(names(fields.funcname).at(-1))
    case 'A_Indirection':
      return of(fields.arg)
    case 'A_Expr':
      return fields.kind === 'AEXPR_NULLIF' ? sure('nullif') : null
    case 'TypeCast': {
      const inner = of(fields.arg)
      const name = names((fields.typeName as Fields).names).at(-1)
      return inner?.isSure ? inner : name === undefined ? inner : { name, isSure: false }
    }
    case 'CollateClause':
      return of(fields.arg)
    case 'CaseExpr': {
      const inner = of(fields.defresult)
      return inner?.isSure ? inner : { name: 'case', isSure: false }
    }
    case 'MinMaxExpr':
      return sure(fields.op === 'IS_LEAST' ? 'least' : 'greatest')
    case 'SQLValueFunction':
      return sure(
        String(fields.op)
          .replace(/^SVFOP_|_N$/g, '')
          .toLowerCase(),
      )
    case 'SubLink': {
      const fixed = SUBLINKS[fields.subLinkType as string]
      if (fixed || fields.subLinkType !== 'EXPR_SUBLINK') return sure(fixed)
      const select = unwrap(fields.subselect)?.fields
      const [target] = ((select?.targetList ?? []) as Fields[]).flatMap(one => unwrap(one) ?? [])
      return target ? (sure(target.fields.name as string | undefined) ?? of(target.fields.val)) : null
    }
    default:
      return sure(FIXED[type])
  }
}
