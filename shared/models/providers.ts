/** The providers as data. A provider is one row here plus its adapter's line in `workers/providers/index.ts`. */

export type ProviderDescriptor = {
  /** The name on the wire, in SQL and in metrics labels. */
  name: string
  /** Which adapter in `workers/providers/` speaks its wire format. */
  adapter: 'anthropic' | 'openai' | 'ollama'
  /** The environment names that the provider's own SDK and documentation use. */
  env: { key?: string; url: string; model: string }
  baseUrl: string
  /** Asked when neither the task nor the settings name a model; null: the first one that the server offers. */
  defaultModel: string | null
  /** Asked under `options.model: "auto"` for simple and for demanding prompts (`auto.ts`); null: the default model. */
  cheapModel: string | null
  strongModel: string | null
  /**
   * That it makes vectors, too: the setting that names the model, and which one is asked without it; null: the first that the
   * server has. Absent: it makes none.
   */
  embeds?: { env: string; defaultModel: string | null }
  /** Needs no key: counts as configured when its URL is set, or when something answers at `baseUrl`. */
  keyless?: true
}

/** In order of preference when `PROVIDERS` does not say otherwise. */
export const PROVIDERS = [
  {
    name: 'anthropic',
    adapter: 'anthropic',
    env: { key: 'ANTHROPIC_API_KEY', url: 'ANTHROPIC_BASE_URL', model: 'ANTHROPIC_MODEL' },
    baseUrl: 'https://api.anthropic.com',
    defaultModel: 'claude-haiku-5-5',
    cheapModel: 'claude-haiku-5-5',
    strongModel: 'claude-opus-5-5',
  },
  {
    name: 'openai',
    adapter: 'openai',
    env: { key: 'OPENAI_API_KEY', url: 'OPENAI_BASE_URL', model: 'OPENAI_MODEL' },
    baseUrl: 'https://api.openai.com/v1',
    defaultModel: 'gpt-5.4-mini',
    cheapModel: 'gpt-5.4-mini',
    strongModel: 'gpt-5.4',
    embeds: { env: 'OPENAI_EMBED_MODEL', defaultModel: 'text-embedding-3-small' },
  },
  {
    name: 'google',
    adapter: 'openai',
    env: { key: 'GOOGLE_AI_API_KEY', url: 'GOOGLE_AI_BASE_URL', model: 'GOOGLE_AI_MODEL' },
    baseUrl: 'https://generativelanguage.googleapis.com/v1beta/openai/',
    defaultModel: 'gemini-2.5-flash',
    cheapModel: 'gemini-3.5-flash-lite',
    strongModel: 'gemini-3.8-flash',
    embeds: { env: 'GOOGLE_AI_EMBED_MODEL', defaultModel: 'gemini-embedding-001' },
  },
  {
    name: 'deepseek',
    adapter: 'openai',
    env: { key: 'DEEPSEEK_API_KEY', url: 'DEEPSEEK_BASE_URL', model: 'DEEPSEEK_MODEL' },
    baseUrl: 'https://api.deepseek.com',
    defaultModel: 'deepseek-chat',
    cheapModel: 'deepseek-v4-flash',
    strongModel: 'deepseek-v4-pro',
  },
  {
    name: 'ollama',
    adapter: 'ollama',
    env: { url: 'OLLAMA_HOST', model: 'OLLAMA_MODEL' },
    baseUrl: 'http://127.0.0.1:11434',
    defaultModel: null,
    cheapModel: null,
    strongModel: null,
    embeds: { env: 'OLLAMA_EMBED_MODEL', defaultModel: null },
    keyless: true,
  },
] as const satisfies readonly ProviderDescriptor[]

export type ProviderName = (typeof PROVIDERS)[number]['name']
export const PROVIDER_NAMES = PROVIDERS.map(provider => provider.name)
