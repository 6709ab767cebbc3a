/** `value`: a plain value. `node`: a wrapped node or a list of them. Otherwise: the type of an unwrapped node. */
export type FieldKind = 'value' | 'node' | (string & {})

const shape = (text: string): Record<string, FieldKind> =>
  Object.fromEntries([
    ['location', 'value'],
    ...text.split(/\s+/).flatMap(part => {
      if (part === '') return []
      const [field, kind = 'node'] = part.split(':')
      return [[field!, kind]]
    }),
  ])

/**
 * Every node of a harmless SELECT, with all its allowed fields. Everything else is refused, so that a newer grammar
 * cannot add something unchecked.
 */
export const SHAPES = new Map<string, Record<string, FieldKind>>(
  Object.entries({
    SelectStmt: shape(`distinctClause targetList fromClause whereClause groupClause groupDistinct:value havingClause
      windowClause valuesLists sortClause limitOffset limitCount limitOption:value withClause:WithClause op:value
      all:value larg:SelectStmt rarg:SelectStmt`),
    WithClause: shape('ctes'),
    CommonTableExpr: shape('ctename:value aliascolnames ctematerialized:value ctequery'),
    ResTarget: shape('name:value val'),
    RangeVar: shape('schemaname:value relname:value inh:value relpersistence:value alias:Alias'),
    RangeSubselect: shape('lateral:value subquery alias:Alias'),
    RangeFunction: shape('lateral:value ordinality:value functions alias:Alias'),
    JoinExpr: shape(`jointype:value isNatural:value larg rarg usingClause join_using_alias:Alias quals alias:Alias
      rtindex:value`),
    Alias: shape('aliasname:value colnames'),
    ColumnRef: shape('fields'),
    A_Star: shape(''),
    A_Const: shape('ival:Integer fval:Float boolval:Boolean sval:String bsval:BitString isnull:value'),
    Integer: shape('ival:value'),
    Float: shape('fval:value'),
    Boolean: shape('boolval:value'),
    String: shape('sval:value'),
    BitString: shape('bsval:value'),
    List: shape('items'),
    A_Expr: shape('kind:value name lexpr rexpr rexpr_list_start:value rexpr_list_end:value'),
    BoolExpr: shape('boolop:value args'),
    NullTest: shape('arg nulltesttype:value'),
    BooleanTest: shape('arg booltesttype:value'),
    CaseExpr: shape('arg args defresult'),
    CaseWhen: shape('expr result'),
    CoalesceExpr: shape('args'),
    MinMaxExpr: shape('op:value args'),
    RowExpr: shape('args row_format:value'),
    A_ArrayExpr: shape('elements list_start:value list_end:value'),
    A_Indirection: shape('arg indirection'),
    A_Indices: shape('is_slice:value lidx uidx'),
    SubLink: shape('subLinkType:value testexpr operName subselect'),
    TypeCast: shape('arg typeName:TypeName'),
    TypeName: shape('names typmods typemod:value arrayBounds'),
    CollateClause: shape('arg collname'),
    FuncCall: shape(`funcname args agg_order agg_filter over:WindowDef agg_within_group:value agg_star:value
      agg_distinct:value func_variadic:value funcformat:value ignore_nulls:value`),
    NamedArgExpr: shape('arg name:value argnumber:value'),
    SQLValueFunction: shape('op:value typmod:value'),
    WindowDef: shape(`name:value refname:value partitionClause orderClause frameOptions:value startOffset endOffset`),
    SortBy: shape('node sortby_dir:value sortby_nulls:value useOp'),
    GroupingFunc: shape('args'),
    GroupingSet: shape('kind:value content'),
  }),
)
