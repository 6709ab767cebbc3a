/** A column of the rows that a statement receives: its name, its Postgres type, and its value for an item. */
export type Column<Item> = readonly [name: string, type: string, value: (item: Item) => unknown]

/**
 * Columns that a statement receives as one array parameter each. The text of the statement does not depend on the number of
 * rows, so that it is prepared once.
 */
export function defineColumns<Item>(columns: readonly Column<Item>[]) {
  const names = columns.map(([name]) => name)
  const arrays = (first: number) => columns.map(([, type], index) => `$${first + index}::${type}[]`).join(', ')
  return {
    /** Number of parameters. */
    count: columns.length,
    /** `id, epoch` */
    names: names.join(', '),
    /** `unnest($1::uuid[], $2::int[]) AS i(id, epoch)`. @param first number of the first parameter */
    unnest: (alias: string, first: number): string => `unnest(${arrays(first)}) AS ${alias}(${names.join(', ')})`,
    /** The same with a last column `ord`, the position of the row from 1. */
    unnestOrdered: (alias: string, first: number): string =>
      `unnest(${arrays(first)}) WITH ORDINALITY AS ${alias}(${names.join(', ')}, ord)`,
    /** The parameters, one array per column. */
    values: (items: readonly Item[]): unknown[][] => columns.map(([, , value]) => items.map(item => value(item))),
  }
}
