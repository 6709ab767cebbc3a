import { Refusal, refuse } from './refusal.ts'

/** The fields of one node of the syntax tree, as libpg-query writes them in JSON. */
export type Fields = Record<string, unknown>

/** `start` and `end` are offsets in bytes of UTF-8. */
export type Token = { start: number; end: number; text: string; tokenName: string; keywordKind: number }

export type Parser = {
  scanSync(sql: string): { tokens: Token[] }
  parseSync(sql: string): { stmts?: { stmt?: unknown }[] }
}

/** Bytes of UTF-8. */
export const MAX_BYTES = 20_000
/** Maximum number of open brackets and CASEs. */
const MAX_BRACKETS = 60
/**
 * Maximum number of keywords and operators. Each can add a level to the tree without a bracket (`1+1+1…`, `NOT NOT …`).
 */
const MAX_CHAIN = 1000

let loading: Promise<Parser> | undefined

/** Loads the parser at its first use, because importing libpg-query compiles 1.7 MB of wasm. */
export function loadParser(): Promise<Parser> {
  loading ??= load().catch(error => {
    loading = undefined
    throw error
  })
  return loading
}

async function load(): Promise<Parser> {
  const { loadModule, parseSync, scanSync } = await import('libpg-query')
  await loadModule()
  return { parseSync, scanSync } as unknown as Parser
}

/** The tokens, including comments and semicolons. Refuses queries that could overflow the stack of the parser. */
export function tokensOf(parser: Parser, sql: string): Token[] {
  if (Buffer.byteLength(sql) > MAX_BYTES) refuse('too_long', `The query is longer than ${MAX_BYTES} bytes.`)
  // The parser takes a C string and would check only the text before the NUL.
  if (sql.includes('\0')) refuse('not_sql', 'The query contains the character U+0000.')
  if (!sql.isWellFormed()) refuse('not_sql', 'The query contains a lone surrogate.')
  if (sql.trim() === '') refuse('not_sql', 'The query is empty.')
  const { tokens } = attempt(() => parser.scanSync(sql))
  let brackets = 0
  let chain = 0
  for (const { text, keywordKind, tokenName } of tokens) {
    const word = text.toLowerCase()
    if (text === '(' || text === '[' || word === 'case') brackets++
    else if (text === ')' || text === ']' || word === 'end') brackets--
    else if (keywordKind > 0 || !/^(IDENT|UIDENT|[A-Z]*CONST|ASCII_(44|46)|.*COMMENT)$/.test(tokenName)) chain++
    if (brackets > MAX_BRACKETS) refuse('too_deep', `The query is nested more than ${MAX_BRACKETS} levels deep.`)
  }
  if (chain > MAX_CHAIN) refuse('too_deep', `The query has more than ${MAX_CHAIN} keywords and operators.`)
  return tokens
}

/** The statements of the text. */
export function parse(parser: Parser, sql: string): Fields[] {
  const { stmts = [] } = attempt(() => parser.parseSync(sql))
  return stmts.map(({ stmt }) => stmt as Fields)
}

function attempt<T>(run: () => T): T {
  try {
    return run()
  } catch (error) {
    // V8 ends a wasm call that runs out of stack with a RangeError.
    if (error instanceof RangeError) throw new Refusal('too_deep', 'The query is nested too deeply.')
    throw new Refusal('not_sql', `The query is not valid SQL: ${(error as Error).message}.`)
  }
}

/** The type and fields of a wrapped node, `{ColumnRef: {…}}`; null for the parser's empty node. */
export function unwrap(node: unknown): { type: string; fields: Fields } | null {
  const [entry, ...more] = Object.entries(node as Fields)
  if (!entry) return null
  if (more.length > 0) throw new Refusal('not_allowed', 'The query has a syntax tree of an unknown shape.')
  return { type: entry[0], fields: entry[1] as Fields }
}

/** The texts of a list of String nodes; `*` for A_Star. */
export function names(list: unknown): string[] {
  return ((list ?? []) as Fields[]).map(node => {
    const one = unwrap(node)
    if (one?.type === 'A_Star') return '*'
    return (one?.fields.sval as string | undefined) ?? ''
  })
}
