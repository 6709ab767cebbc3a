import { limited } from './limit.ts'
import { loadParser, parse, tokensOf } from './parse.ts'
import { Refusal, type Refused, refuse } from './refusal.ts'
import { checkScope, type Tables } from './scope.ts'
import { checkTree } from './tree.ts'

/**
 * What a query may read. A table is named as it must be written: `orders` in the rules is not `public.orders` in the
 * query. With columns, only these; with none, any. A query that reads tables of both sorts has to qualify the columns
 * of the second, since an unqualified name might be one of the columns left out of the first.
 *
 * The listed columns must be there. Postgres takes the name of one that is not for whatever else has it: a column of a
 * query around it, a function of the row. Whoever runs the query has to make sure, as `openQueryDatabase` does.
 */
export type SqlRules = {
  tables: Tables
  /** Rows of the result, a positive integer. */
  maxRows: number
}

/** `sql`: what to run. `tables`: those of the rules that it reads. */
export type Guarded = { ok: true; sql: string; tables: string[] } | Refused

/**
 * Makes sure, by the grammar of Postgres itself, that a text is one SELECT that reads nothing but the tables and
 * columns of the rules, calls nothing but harmless functions and returns at most `maxRows` rows.
 *
 * It says nothing about how long the query takes or what it needs on the way, which may be gigabytes: run it with a
 * statement_timeout, on a server whose memory is bounded, as a role that may only read, and with
 * standard_conforming_strings on, as it is by default.
 *
 * @throws when the parser cannot be loaded or `maxRows` is not a positive integer; never because of `sql`.
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
    const { used, ordinals } = checkScope(statement, tables)
    return { ok: true, sql: limited(parser, sql, tokens, statement, ordinals, maxRows), tables: used }
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    return { ok: false, code: error.code, reason: error.message }
  }
}
