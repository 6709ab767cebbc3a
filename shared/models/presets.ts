/** Known endpoints as data: `preset` in a provider's definition fills in what the definition leaves out. */

export const FORMATS = ['openai', 'anthropic', 'ollama', 'azure-openai', 'bedrock', 'vertex'] as const
/** How an endpoint is spoken to. Azure speaks OpenAI's format; Bedrock and Vertex speak Anthropic's. */
export type ApiFormat = (typeof FORMATS)[number]

export type Preset = {
  format: ApiFormat
  baseUrl?: string
  /** The variable of the vendor's own documentation. Absent: a server of the operator, without a key. */
  keyEnv?: string
  /** The provider of the built-in catalogue with its models and prices. */
  catalogue?: string
  /** It has no embedding models. */
  noEmbeddings?: true
}

export const PRESETS = {
  anthropic: {
    format: 'anthropic',
    baseUrl: 'https://api.anthropic.com',
    keyEnv: 'ANTHROPIC_API_KEY',
    catalogue: 'anthropic',
  },
  openai: { format: 'openai', baseUrl: 'https://api.openai.com/v1', keyEnv: 'OPENAI_API_KEY', catalogue: 'openai' },
  google: {
    format: 'openai',
    baseUrl: 'https://generativelanguage.googleapis.com/v1beta/openai',
    keyEnv: 'GEMINI_API_KEY',
    catalogue: 'google',
  },
  deepseek: {
    format: 'openai',
    baseUrl: 'https://api.deepseek.com',
    keyEnv: 'DEEPSEEK_API_KEY',
    catalogue: 'deepseek',
    noEmbeddings: true,
  },
  groq: {
    format: 'openai',
    baseUrl: 'https://api.groq.com/openai/v1',
    keyEnv: 'GROQ_API_KEY',
    noEmbeddings: true,
  },
  mistral: { format: 'openai', baseUrl: 'https://api.mistral.ai/v1', keyEnv: 'MISTRAL_API_KEY' },
  together: { format: 'openai', baseUrl: 'https://api.together.xyz/v1', keyEnv: 'TOGETHER_API_KEY' },
  openrouter: {
    format: 'openai',
    baseUrl: 'https://openrouter.ai/api/v1',
    keyEnv: 'OPENROUTER_API_KEY',
    noEmbeddings: true,
  },
  xai: { format: 'openai', baseUrl: 'https://api.x.ai/v1', keyEnv: 'XAI_API_KEY', noEmbeddings: true },
  azure: { format: 'azure-openai', keyEnv: 'AZURE_OPENAI_API_KEY', catalogue: 'openai' },
  bedrock: { format: 'bedrock', catalogue: 'anthropic' },
  vertex: { format: 'vertex', catalogue: 'anthropic' },
  ollama: { format: 'ollama', baseUrl: 'http://127.0.0.1:11434', catalogue: 'ollama' },
  vllm: { format: 'openai', baseUrl: 'http://127.0.0.1:8000/v1' },
  lmstudio: { format: 'openai', baseUrl: 'http://127.0.0.1:1234/v1' },
} as const satisfies Record<string, Preset>

export const presetOf = (name: string): Preset | undefined =>
  Object.hasOwn(PRESETS, name) ? PRESETS[name as keyof typeof PRESETS] : undefined

/** The wire format of each. */
export const WIRES: Record<ApiFormat, 'openai' | 'anthropic' | 'ollama'> = {
  openai: 'openai',
  anthropic: 'anthropic',
  ollama: 'ollama',
  'azure-openai': 'openai',
  bedrock: 'anthropic',
  vertex: 'anthropic',
}

/** What a definition without a preset gets from its format. */
export const FORMAT_DEFAULTS: Record<ApiFormat, Omit<Preset, 'format'>> = {
  openai: {},
  anthropic: {},
  ollama: { catalogue: 'ollama' },
  'azure-openai': { catalogue: 'openai' },
  bedrock: { catalogue: 'anthropic' },
  vertex: { catalogue: 'anthropic' },
}
