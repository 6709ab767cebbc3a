import { isDeepStrictEqual } from 'node:util'
import { type Fields, type Parser, parse, type Token, unwrap } from './parse.ts'
import { refuse } from './refusal.ts'
import type { Changes } from './scope.ts'

/**
 * Limits the query to `maxRows` rows. Keeps its text, except comments and semicolons. The result is parsed again and
 * compared with the checked tree, so that the query that runs is the one that was checked.
 */
export function addLimit(
  parser: Parser,
  source: string,
  tokens: Token[],
  statement: Fields,
  { ordinals, unqualified }: Changes,
  maxRows: number,
): string {
  const edits = new Map<number, string>()
  for (const { node, position } of ordinals) {
    edits.set((node.ColumnRef as Fields).location as number, String(position))
    delete node.ColumnRef
    node.A_Const = { ival: { ival: position } }
  }
  const removed = new Set<number>()
  for (const { type, fields } of unqualified) {
    // The schema and the following dot.
    const rest = tokens.filter(one => one.start >= (fields.location as number) && !/COMMENT$/.test(one.tokenName))
    for (const { start } of rest.slice(0, 2)) removed.add(start)
    if (type === 'RangeVar') delete fields.schemaname
    else fields.fields = (fields.fields as Fields[]).slice(1)
  }
  const kept = tokens.filter(one => !removed.has(one.start))
  const select = statement.SelectStmt as Fields
  const count = select.limitCount === undefined ? undefined : unwrap(select.limitCount)
  const own = count?.type === 'A_Const' && !count.fields.isnull ? (count.fields.ival as Fields | undefined) : undefined
  let text: string
  let expected: Fields
  if (count === undefined) {
    text = `${rebuild(source, kept, edits)} LIMIT ${maxRows}`
    expected = { ...select, limitCount: constant(maxRows), limitOption: 'LIMIT_OPTION_COUNT' }
  } else if (own && select.limitOption === 'LIMIT_OPTION_COUNT') {
    const rows = Number(own.ival ?? 0)
    if (rows > maxRows) edits.set(count!.fields.location as number, String(maxRows))
    text = rebuild(source, kept, edits)
    expected = { ...select, limitCount: constant(Math.min(rows, maxRows)) }
  } else {
    // LIMIT ALL, WITH TIES, or a computed LIMIT.
    text = `SELECT * FROM (${rebuild(source, kept, edits)}) AS q LIMIT ${maxRows}`
    const frame = `SELECT * FROM (SELECT 1) AS q LIMIT ${maxRows}`
    expected = structuredClone(parse(parser, frame)[0]!.SelectStmt as Fields)
    const [item] = expected.fromClause as [{ RangeSubselect: { subquery: Fields } }]
    item.RangeSubselect.subquery = { SelectStmt: select }
  }
  const again = parse(parser, text)
  if (again.length !== 1 || !isDeepStrictEqual(bare(again[0]), bare({ SelectStmt: expected }))) {
    refuse('not_allowed', 'The query cannot be given a LIMIT without changing what it means.')
  }
  return text
}

const constant = (rows: number) => ({ A_Const: { ival: rows === 0 ? {} : { ival: rows } } })

/** The source without comments and semicolons. `edits`: replacements of tokens, by their first byte. */
function rebuild(source: string, tokens: Token[], edits: Map<number, string>): string {
  const bytes = Buffer.from(source)
  let text = ''
  let end = 0
  for (const { start, end: next, tokenName } of tokens) {
    if (/COMMENT$/.test(tokenName) || tokenName === 'ASCII_59') continue
    if (text !== '' && start > end) text += ' '
    text += edits.get(start) ?? bytes.toString('utf8', start, next)
    end = next
  }
  return text
}

const PLACES = new Set(['location', 'list_start', 'list_end', 'rexpr_list_start', 'rexpr_list_end'])

/** The tree without positions in the text. */
function bare(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(bare)
  if (typeof node !== 'object' || node === null) return node
  return Object.fromEntries(
    Object.entries(node).flatMap(([key, value]) => (PLACES.has(key) ? [] : [[key, bare(value)]])),
  )
}
