/** Words of a name that indicate a secret. They must match completely, unlike `hashtag` and `tokenized`. */
const SECRET_WORDS = new Set(
  `password passwd passphrase pwd passcode pin secret secrets token otp totp mfa hash salt pepper credential
  credentials ssn cvv cvc iban apikey privatekey secretkey accesskey creditcard cardnumber cookie jwt
  authkey`.split(/\s+/),
)

/** Pairs of words that indicate a secret together. */
const SECRET_PAIRS = new Set(
  `api_key private_key secret_key access_key signing_key encryption_key ssh_key pgp_key auth_key master_key credit_card
  card_number card_no social_security national_id tax_id passport_number bank_account account_number session_id
  security_code security_answer recovery_code backup_code two_factor`.split(/\s+/),
)

/** Parts of names that are written as one word. */
const SECRET_PARTS = /passw(or)?d|passphrase|secret|apikey|privatekey|creditcard|credential|ssnumber|accesstoken/

/**
 * The names in a schema that look like secrets, `table` or `table.column`. Refuse such a schema before a model gets it.
 */
export function secretColumns(tables: Record<string, readonly string[]>): string[] {
  return Object.entries(tables).flatMap(([table, columns]) => [
    ...(looksSecret(table) ? [table] : []),
    ...columns.filter(looksSecret).map(column => `${table}.${column}`),
  ])
}

function looksSecret(name: string): boolean {
  const parts = name
    .replace(/(?<=[a-z0-9])(?=[A-Z])/g, '_')
    .toLowerCase()
    .split(/[^a-z0-9]+/)
  return parts.some(
    (part, i) =>
      SECRET_WORDS.has(part) ||
      SECRET_PARTS.test(part) ||
      SECRET_PAIRS.has(`${part}_${parts[i + 1]?.replace(/s$/, '')}`),
  )
}
