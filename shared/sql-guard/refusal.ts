/** Why a query was refused. `hidden_columns`: it could reach columns that the rules do not list. */
export const REFUSAL_CODES = [
  'not_sql',
  'too_long',
  'too_deep',
  'several_statements',
  'not_a_select',
  'writes',
  'select_into',
  'locks',
  'recursive',
  'parameter',
  'table_function',
  'system_table',
  'system_column',
  'unknown_table',
  'unknown_column',
  'hidden_columns',
  'function_not_allowed',
  'operator_not_allowed',
  'type_not_allowed',
  'field_access',
  'not_allowed',
] as const
export type RefusalCode = (typeof REFUSAL_CODES)[number]

/** `reason`: a sentence that names the refused part. It is safe to show to the model. */
export type Refused = { ok: false; code: RefusalCode; reason: string }

/** Carries a refusal out of a recursive walk. It never leaves this folder. */
export class Refusal extends Error {
  readonly code: RefusalCode

  constructor(code: RefusalCode, reason: string) {
    super(reason)
    this.code = code
  }
}

export function refuse(code: RefusalCode, reason: string): never {
  throw new Refusal(code, reason)
}
