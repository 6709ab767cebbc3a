import { Type } from 'typebox'

/** Token sums, with the column names of the database. */
export type TokenSums = {
  input_tokens: number
  output_tokens: number
  cache_read_tokens: number
  cache_write_tokens: number
  reasoning_tokens: number
}

export const NO_TOKENS: TokenSums = {
  input_tokens: 0,
  output_tokens: 0,
  cache_read_tokens: 0,
  cache_write_tokens: 0,
  reasoning_tokens: 0,
}

/** `usage` of a task or a native batch: the sum of all its provider calls. */
export const usageSchema = Type.Object({
  input_tokens: Type.Integer({ description: 'Includes cached tokens.' }),
  output_tokens: Type.Integer({ description: 'Includes reasoning tokens.' }),
  cache_read_tokens: Type.Integer({ description: 'Part of `input_tokens`, read from the provider’s prompt cache.' }),
  cache_write_tokens: Type.Integer({ description: 'Part of `input_tokens`, written to the provider’s prompt cache.' }),
  reasoning_tokens: Type.Integer({ description: 'Part of `output_tokens`, if the provider reports it.' }),
})

export const usageJson = (sums: TokenSums): TokenSums => ({
  input_tokens: sums.input_tokens,
  output_tokens: sums.output_tokens,
  cache_read_tokens: sums.cache_read_tokens,
  cache_write_tokens: sums.cache_write_tokens,
  reasoning_tokens: sums.reasoning_tokens,
})
