import { startStack } from '#shared/testing/stack.ts'

/** One model per wire format of the providers. */
export const MODELS = [
  ['OpenAI', 'openai/gpt-5.4-mini'],
  ['Anthropic', 'anthropic/claude-haiku-5-5'],
  ['Ollama', 'ollama/llama3.2'],
] as const

export const WEATHER = { city: 'Oslo' }
/** One pixel. */
export const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='

/** A stack with all three providers. */
export function startSdkStack() {
  const stack = startStack(upstream => ({
    PROVIDERS: 'openai,anthropic,ollama',
    OPENAI_API_KEY: 'key',
    OPENAI_BASE_URL: `${upstream.url}/v1`,
    OLLAMA_HOST: upstream.url,
    BACKOFF_BASE_MS: '20',
    BACKOFF_MAX_MS: '50',
  }))
  return Object.assign(stack, {
    url: () => `http://127.0.0.1:${stack.api.port}`,
  })
}

/** Loads a version of an SDK. `Sdk` is the type of the current one, which the tests use of both. */
export const load = async <Sdk>(name: string): Promise<Sdk> => (await import(name)) as Sdk

export async function collect<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const one of stream) all.push(one)
  return all
}
