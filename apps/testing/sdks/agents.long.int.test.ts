import { createAnthropic } from '@ai-sdk/anthropic'
import { createOpenAI } from '@ai-sdk/openai'
import { Agent, tool as agentTool, OpenAIProvider, Runner } from '@openai/agents'
import { generateText, isStepCount, type LanguageModel, streamText, tool } from 'ai'
import OpenAI from 'openai'
import { beforeEach, expect, it } from 'vitest'
import { z } from 'zod'
import { ADMIN } from '#shared/testing/stack.ts'
import { MODELS, startSdkStack, WEATHER } from './sdk-stack.ts'

const stack = startSdkStack()
const city = z.object({ city: z.string() })

beforeEach(() => {
  stack.upstream.reset()
  stack.upstream.models(['llama3.2:latest'])
  stack.upstream.script({ toolCalls: [{ name: 'get_weather', arguments: WEATHER }] }, { text: 'It rains in Oslo.' })
})

it.each(MODELS.flatMap(([name, model]) => [[name, model, true] as const, [name, model, false] as const]))(
  'openai-agents complete a tool loop on %s (%s), through responses: %s',
  async (_, model, useResponses) => {
    const client = new OpenAI({ baseURL: `${stack.url()}/v1`, apiKey: ADMIN, maxRetries: 0 })
    const runner = new Runner({
      modelProvider: new OpenAIProvider({ openAIClient: client, useResponses }),
      tracingDisabled: true,
    })
    const weather = agentTool({
      name: 'get_weather',
      description: 'The weather in a city',
      parameters: city,
      execute: async ({ city }) => `Rain in ${city}`,
    })
    const agent = new Agent({ name: 'Forecaster', instructions: 'Use the tool.', model, tools: [weather] })
    const { finalOutput } = await runner.run(agent, 'The weather in Oslo?')
    expect(finalOutput).toBe('It rains in Oslo.')
    expect(stack.upstream.calls[1]?.prompt).toContain('Rain in Oslo')
  },
)

const aiTools = {
  get_weather: tool({
    description: 'The weather in a city',
    inputSchema: city,
    execute: async ({ city }) => `Rain in ${city}`,
  }),
}
const openai = () => createOpenAI({ baseURL: `${stack.url()}/v1`, apiKey: ADMIN })
const anthropic = () => createAnthropic({ baseURL: `${stack.url()}/v1`, apiKey: ADMIN })
const AI_SDK: [name: string, model: (id: string) => LanguageModel][] = [
  ['chat completions', id => openai().chat(id)],
  ['responses', id => openai().responses(id)],
  ['messages', id => anthropic()(id)],
]

it.each(AI_SDK.flatMap(([name, of]) => MODELS.map(([provider, id]) => [name, provider, of, id] as const)))(
  'the Vercel AI SDK completes a tool loop through %s on %s, whole and streamed',
  async (_name, _provider, of, id) => {
    const options = {
      model: of(id),
      tools: aiTools,
      stopWhen: isStepCount(3),
      maxRetries: 0,
      prompt: 'The weather in Oslo?',
    }
    expect((await generateText(options)).text).toBe('It rains in Oslo.')
    expect(stack.upstream.calls[1]?.prompt).toContain('Rain in Oslo')
    stack.upstream.script({ toolCalls: [{ name: 'get_weather', arguments: WEATHER }] }, { text: 'It rains in Oslo.' })
    expect(await streamText(options).text).toBe('It rains in Oslo.')
  },
)
