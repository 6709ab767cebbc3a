/** Kept in every ledger row that was priced with this table. */
export const PRICE_VERSION = '2026-11-20'

/** Picodollars per token: the dollars per million tokens times 10^6. Integers, so that sums are exact. */
type Band = { upToPromptTokens: number; input: bigint; output: bigint; cacheRead: bigint; cacheWrite: bigint }

const perMillion = (dollars: number) => BigInt(Math.round(dollars * 1_000_000))

/** Cached input costs a tenth to read and a quarter more to write (5 minutes). */
const claude = (input: number, output: number, upToPromptTokens = Number.POSITIVE_INFINITY): Band => ({
  upToPromptTokens,
  input: perMillion(input),
  output: perMillion(output),
  cacheRead: perMillion(input / 10),
  cacheWrite: perMillion(input * 1.25),
})

const TABLE: readonly { provider: string; model: RegExp; bands: Band[] }[] = [
  { provider: 'anthropic', model: /^claude-opus-5-5(-\d{8})?$/, bands: [claude(4, 20)] },
  { provider: 'anthropic', model: /^claude-opus-5(-\d{8})?$/, bands: [claude(5, 25)] },
  { provider: 'anthropic', model: /^claude-sonnet-5(-5)?(-\d{8})?$/, bands: [claude(2, 10)] },
  { provider: 'anthropic', model: /^claude-haiku-5-5(-\d{8})?$/, bands: [claude(0.1, 0.5, 100_000), claude(0.5, 2.5)] },
  { provider: 'anthropic', model: /^claude-haiku-4-5(-\d{8})?$/, bands: [claude(1, 5)] },
  // It runs on the operator's own machine.
  {
    provider: 'ollama',
    model: /./,
    bands: [{ upToPromptTokens: Number.POSITIVE_INFINITY, input: 0n, output: 0n, cacheRead: 0n, cacheWrite: 0n }],
  },
]

export type PricedUsage = {
  inputTokens: number
  outputTokens: number
  cacheReadTokens: number
  cacheWriteTokens: number
}

/**
 * What a call cost, exactly. `inputTokens` includes the cached ones.
 * @returns dollars as a decimal with 12 places, or null if the model has no known price
 */
export function costOf(provider: string, model: string, usage: PricedUsage): string | null {
  const row = TABLE.find(price => price.provider === provider && price.model.test(model))
  const band = row?.bands.find(one => usage.inputTokens <= one.upToPromptTokens)
  if (!band) return null
  const fresh = BigInt(Math.max(0, usage.inputTokens - usage.cacheReadTokens - usage.cacheWriteTokens))
  return picodollars(
    fresh * band.input +
      BigInt(usage.cacheReadTokens) * band.cacheRead +
      BigInt(usage.cacheWriteTokens) * band.cacheWrite +
      BigInt(usage.outputTokens) * band.output,
  )
}

const picodollars = (amount: bigint): string => {
  const digits = amount.toString().padStart(13, '0')
  return `${digits.slice(0, -12)}.${digits.slice(-12)}`
}
