import type { PriceOverride } from '#shared/models/price-overrides.ts'
import { DEMO } from '#shared/models/providers.ts'
import { messageText } from '#shared/requests/text.ts'
import type { AvailableProvider } from '#shared/routing.ts'
import type { Provider } from './define.ts'

/**
 * The provider that `npm start` offers for its first minute if no other is configured. It echoes the prompt without a
 * network, so that newcomers see the whole path of a task. Only for `generate`, because an echo in the result of
 * another kind could pass for a model's answer.
 */
export const demo: Provider = {
  name: DEMO,
  ping: async () => undefined,
  defaultModel: async () => MODEL,
  embedding: null,
  async call({ messages }, { onEvent }) {
    const last = messages.at(-1)
    const text = echo(last ? messageText(last) : '')
    for (const delta of text.match(/\s*\S+|\s+$/g) ?? []) onEvent?.({ type: 'text', part: 0, delta })
    const usage = { inputTokens: 0, outputTokens: 0, cacheReadTokens: 0, cacheWriteTokens: 0 }
    return { parts: [{ type: 'text', text }], finishReason: 'stop', usage, model: `${DEMO}/${MODEL}`, limits: null }
  },
}

const MODEL = 'echo'
const MAX_ECHO = 500

const echo = (prompt: string) =>
  `[demo] No provider is configured, so no model has read this prompt. It ${
    prompt.length > MAX_ECHO ? `has ${prompt.length} characters and begins` : 'was'
  }: ${prompt.slice(0, MAX_ECHO).toWellFormed()}`

export const DEMO_PRICE: PriceOverride = {
  provider: DEMO as PriceOverride['provider'],
  model: MODEL,
  prices: [{ input: '0', output: '0' }],
}

/** Offers the demo provider to routing for the next `ms` milliseconds. */
export function demoWindow(ms: number): () => AvailableProvider | null {
  const until = performance.now() + ms
  return () => (performance.now() < until ? { name: DEMO, defaultModel: MODEL, kinds: ['generate'] } : null)
}
