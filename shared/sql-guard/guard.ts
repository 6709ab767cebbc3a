import { addLimit } from './limit.ts'
import { loadParser, parse, tokensOf } from './parse.ts'
import { Refusal, type Refused, refuse } from './refusal.ts'
import { checkScope, type Tables } from './scope.ts'
import { checkTree } from './tree.ts'

/**
 * The tables and columns that a query may read. A query must write the name of a table as listed; `public.orders` is
 * also accepted for `orders`, and is rewritten. With listed columns, a query may read only these; with an empty list,
 * any. A query that reads tables of both sorts must qualify the columns of the second, because an unqualified name
 * might be an unlisted column of the first.
 *
 * The listed columns must exist. Postgres resolves the name of a missing column to something else: a column of an outer
 * query, or a function of the row. The same applies to names such as `o.total` if no columns are listed. Before it runs
 * the query, the caller must verify that all `columns` of the result exist, as `openQueryDatabase` does.
 */
export type SqlRules = {
  tables: Tables
  /** Maximum number of rows, a positive integer. */
  maxRows: number
}

/**
 * `sql`: the query to run. `tables`: the listed tables that it reads. `columns`: the columns that must exist in them
 * for it to be safe.
 */
export type Guarded = { ok: true; sql: string; tables: string[]; columns: Tables } | Refused

/**
 * Verifies, with the grammar of Postgres itself, that a text is one SELECT that reads only the listed tables and
 * columns, calls only harmless functions and returns at most `maxRows` rows.
 *
 * It does not bound the time and memory of the query, which may need gigabytes. Run it with a statement_timeout, on a
 * server with limited memory, as a read-only role, and with standard_conforming_strings on (the default).
 *
 * @throws if the parser cannot be loaded or `maxRows` is not a positive integer; never because of `sql`
 */
export async function guardSql(sql: string, rules: SqlRules): Promise<Guarded> {
  const { tables, maxRows } = rules
  if (!Number.isInteger(maxRows) || maxRows < 1 || maxRows > 2 ** 31 - 1) {
    throw new RangeError('maxRows must be a positive integer of 32 bits')
  }
  const parser = await loadParser()
  try {
    const tokens = tokensOf(parser, sql)
    const statements = parse(parser, sql)
    if (statements.length > 1) refuse('several_statements', `The text has ${statements.length} statements, not one.`)
    const [statement] = statements
    if (statement === undefined) return refuse('not_sql', 'The text has no statement.')
    checkTree(statement)
    const { columns, ...changes } = checkScope(statement, tables)
    const guarded = addLimit(parser, sql, tokens, statement, changes, maxRows)
    return { ok: true, sql: guarded, tables: Object.keys(columns), columns }
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    return { ok: false, code: error.code, reason: error.message }
  }
}
