/** A value in JSON: a number if JavaScript represents it exactly, otherwise the text that Postgres writes. */
export type Cell = string | number | boolean | null

export type QueryRows = {
  columns: { name: string; type: string }[]
  rows: Cell[][]
  /** There were more rows, or a value was longer. */
  truncated: boolean
}

/**
 * `refused`: the query is at fault; `reason` contains no data. `mismatch`: the tables that the query reads lack some of the columns
 * declared for them.
 */
export type QueryOutcome =
  | ({ kind: 'rows' } & QueryRows)
  | { kind: 'refused' | 'mismatch' | 'unavailable'; reason: string }

/** Column names by table, `table` or `schema.table`. */
export type TableColumns = Record<string, readonly string[]>
