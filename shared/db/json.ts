/** A value as the text of a `json` parameter; undefined and null are SQL NULL. */
export const jsonOrNull = (value: unknown): string | null =>
  value === undefined || value === null ? null : JSON.stringify(value)
