import Anthropic from '@anthropic-ai/sdk'

/** The baseline of `drain`: the Anthropic SDK alone with 100 concurrent calls. Reports calls/s. */
const [count, concurrency] = [Number(process.env.COUNT), 100]
const client = new Anthropic({
  apiKey: 'none',
  baseURL: process.env.ANTHROPIC_BASE_URL!,
  maxRetries: 0,
  timeout: 60_000,
})
const ask = () =>
  client.messages.create({
    model: 'claude-haiku-5-5',
    max_tokens: 2048,
    messages: [{ role: 'user', content: 'Three titles for a post on Redis' }],
  })

async function run(calls: number): Promise<number> {
  let left = calls
  const begun = performance.now()
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      while (left-- > 0) await ask()
    }),
  )
  return calls / ((performance.now() - begun) / 1000)
}

await run(2000)
process.send?.({ type: 'ready', port: Math.round(await run(count)) })
process.on('disconnect', () => process.exit(0))
process.on('SIGTERM', () => process.exit(0))
