/** The providers as data: one row each. A row names an adapter of `shared/providers/index.ts`. */

export type ProviderDescriptor = {
  /** The name in the API, in SQL and in metric labels. */
  name: string
  /** The adapter in `shared/providers/` for its wire format. */
  adapter: 'anthropic' | 'openai' | 'ollama'
  /** The environment variables that the provider's own SDK and documentation use. */
  env: {
    key?: string
    /** Alternative names of the key, in order of precedence. `bearer`: the value is sent as a bearer token. */
    aliases?: readonly { name: string; bearer?: true }[]
    url: string
    model: string
  }
  baseUrl: string
  /** Used if neither the task nor the settings name a model; null: the first model that the server lists. */
  defaultModel: string | null
  /** Used by `options.model: "auto"` for simple and for demanding prompts (`auto.ts`); null: the default model. */
  cheapModel: string | null
  strongModel: string | null
  /**
   * For providers with embedding models: the setting that names the model, and the default (null: the first embedding
   * model that the server lists).
   */
  embeds?: { env: string; defaultModel: string | null }
  /** The provider needs no key. It counts as configured if its URL is set, or if a server answers at `baseUrl`. */
  keyless?: true
}

/** In the default order of preference; the setting `PROVIDERS` changes it. */
export const PROVIDERS = [
  {
    name: 'anthropic',
    adapter: 'anthropic',
    env: {
      key: 'ANTHROPIC_API_KEY',
      aliases: [{ name: 'ANTHROPIC_AUTH_TOKEN', bearer: true }],
      url: 'ANTHROPIC_BASE_URL',
      model: 'ANTHROPIC_MODEL',
    },
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
    env: {
      key: 'GOOGLE_AI_API_KEY',
      // In the order of precedence of Google's SDK.
      aliases: [{ name: 'GOOGLE_API_KEY' }, { name: 'GEMINI_API_KEY' }],
      url: 'GOOGLE_AI_BASE_URL',
      model: 'GOOGLE_AI_MODEL',
    },
    baseUrl: 'https://generativelanguage.googleapis.com/v1beta/openai',
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

/** The name of the demo provider, which only `npm start` offers. */
export const DEMO = 'demo'

/** A name of a provider, pool or alias. It is a metric label and part of URLs. */
export const PROVIDER_NAME = '^[a-z][a-z0-9_-]{0,39}$'

export type ProviderName = (typeof PROVIDERS)[number]['name']
export const PROVIDER_NAMES = PROVIDERS.map(provider => provider.name)

const KEYS = (PROVIDERS as readonly ProviderDescriptor[]).flatMap(({ env }) => env.key ?? [])

/** The error message of tasks if no provider is configured or found. */
export const NO_PROVIDER = `No provider is configured. Set ${KEYS.slice(0, -1).join(', ')} or ${KEYS.at(-1)}; or OPENAI_BASE_URL for an OpenAI-compatible server of your own; then restart Sluice. Or start Ollama (OLLAMA_HOST, default ${PROVIDERS.at(-1)!.baseUrl}), which needs no restart.`
