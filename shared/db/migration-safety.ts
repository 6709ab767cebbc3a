import { loadParser } from '#shared/sql-guard/parse.ts'

type Node = Record<string, unknown>
type Cmd = { subtype: string; name?: string; def?: Node }
type Column = { typeName: unknown; constraints?: { Constraint: Constraint }[] }
type Constraint = { contype: string; raw_expr?: unknown; skip_validation?: boolean; indexname?: string }

/**
 * First line of a migration that takes away what no version that may still run uses: `-- contract: <since when, and why>`. It may
 * drop, rename and tighten; it still must not lock a table for long.
 */
const CONTRACT = /^-- contract: \S.{9,}/

/** Functions whose value is the same for all rows of a statement: a default of one of them rewrites no table. */
const STABLE = ['now', 'current_timestamp', 'transaction_timestamp', 'statement_timestamp']

/**
 * What makes a migration unsafe to run beside processes of the version before it: it blocks them for long, or takes away what they
 * use. Only statements that are known to be safe pass.
 * @param sql a file that drizzle-kit wrote
 * @returns one line per finding, in the order of the statements
 */
export async function migrationProblems(sql: string): Promise<string[]> {
  const parser = await loadParser()
  const statements = sql
    .split('--> statement-breakpoint')
    .flatMap(part => parser.parseSync(part).stmts ?? [])
    .map(({ stmt }) => Object.entries(stmt as Node)[0] as [string, Node])
  // Nobody uses yet what the migration itself makes.
  const own = new Set(statements.filter(([type]) => type === 'CreateStmt').map(([, fields]) => tableOf(fields)))
  const contract = CONTRACT.test(sql)
  const concurrent = statements.filter(([type, { concurrent }]) => /^(IndexStmt|DropStmt)$/.test(type) && concurrent)
  const mixed = concurrent.length > 0 && concurrent.length < statements.length
  return [
    ...(mixed ? ['CONCURRENTLY runs outside a transaction: it needs a migration of its own'] : []),
    ...statements.flatMap(([type, fields]) => {
      const table = tableOf(fields)
      if (table && own.has(table)) return []
      return problemsOf(type, fields, contract).map(problem => (table ? `${table}: ${problem}` : problem))
    }),
  ]
}

const tableOf = (fields: Node): string | undefined => (fields.relation as { relname?: string } | undefined)?.relname

function problemsOf(type: string, fields: Node, contract: boolean): string[] {
  switch (type) {
    case 'CreateStmt':
    case 'CommentStmt':
      return []
    case 'IndexStmt':
      if (!fields.concurrent)
        return ['CREATE INDEX blocks all writes while it runs: CONCURRENTLY, in a migration of its own']
      return fields.if_not_exists ? [] : ['CONCURRENTLY needs IF NOT EXISTS, so that it can be tried again']
    case 'DropStmt':
      return dropped(fields, contract)
    case 'RenameStmt':
      return contract ? [] : ['RENAME: the version before knows the old name only']
    case 'AlterTableStmt':
      return (fields.cmds as { AlterTableCmd: Cmd }[]).flatMap(({ AlterTableCmd }) => altered(AlterTableCmd, contract))
    case 'UpdateStmt':
    case 'DeleteStmt':
      return ['rows that it changes stay locked until it ends: fill in slices, from the process']
    default:
      return [`${type} is not known to be safe`]
  }
}

function dropped({ removeType, concurrent }: Node, contract: boolean): string[] {
  const what = String(removeType).replace('OBJECT_', '')
  if (what === 'INDEX') return concurrent ? [] : ['DROP INDEX waits for all who use its table: CONCURRENTLY']
  return contract ? [] : [`DROP ${what}: the version before uses it`]
}

function altered({ subtype, def = {} }: Cmd, contract: boolean): string[] {
  switch (subtype) {
    case 'AT_AddColumn':
      return addedColumn(def.ColumnDef as Column)
    case 'AT_AddConstraint':
      return addedConstraint(def.Constraint as Constraint)
    // Not checked against rows that are there, or a check that lets everybody write.
    case 'AT_ValidateConstraint':
    case 'AT_DropNotNull':
      return []
    case 'AT_DropConstraint':
      return contract ? [] : ['DROP CONSTRAINT: the version before may count on it (ON CONFLICT)']
    case 'AT_ColumnDefault':
      return Object.keys(def).length > 0 || contract
        ? []
        : ['DROP DEFAULT: the version before inserts without the column']
    case 'AT_DropColumn':
      return contract ? [] : ['DROP COLUMN: the version before uses it']
    case 'AT_SetNotNull':
      return ['SET NOT NULL reads the whole table under a lock, and the version before may write NULL']
    case 'AT_AlterColumnType':
      return ['a new type rewrites the whole table under a lock: add a column instead']
    default:
      return [`${subtype} is not known to be safe`]
  }
}

function addedColumn({ typeName, constraints = [] }: Column): string[] {
  const of = (type: string) => constraints.find(({ Constraint }) => Constraint.contype === type)?.Constraint
  const fallback = of('CONSTR_DEFAULT')
  const others = constraints.filter(({ Constraint }) => !/^CONSTR_(NOTNULL|NULL|DEFAULT)$/.test(Constraint.contype))
  return [
    ...(of('CONSTR_NOTNULL') && !fallback ? ['NOT NULL without a DEFAULT: the version before inserts without it'] : []),
    ...((fallback && isVolatile(fallback.raw_expr)) || /"sval":"(small|big)?serial/.test(JSON.stringify(typeName))
      ? ['a DEFAULT that differs by row rewrites the whole table under a lock']
      : []),
    ...others.map(({ Constraint }) => `${Constraint.contype} on a new column reads or locks the whole table`),
  ]
}

/** Any function but those that are the same for all rows. */
function isVolatile(expression: unknown): boolean {
  const names = [...JSON.stringify(expression ?? {}).matchAll(/"funcname":\[(.*?)\]/g)].map(([, list]) => list ?? '')
  return names.some(list => !STABLE.some(name => list.includes(`"sval":"${name}"`)))
}

function addedConstraint({ contype, skip_validation, indexname }: Constraint): string[] {
  if (/^CONSTR_(UNIQUE|PRIMARY)$/.test(contype))
    return indexname
      ? []
      : ['a UNIQUE constraint builds its index under a lock: CREATE UNIQUE INDEX CONCURRENTLY, then USING INDEX']
  return skip_validation
    ? []
    : ['a constraint reads the whole table under a lock: NOT VALID, and VALIDATE in a later migration']
}
