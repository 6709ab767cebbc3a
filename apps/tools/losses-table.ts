import { type Destination, isForwarded, lossesOf } from '#shared/providers/losses.ts'
import type { Wire } from '#shared/requests/request.ts'
import { wholeRequest } from '#shared/requests/stored.ts'
import { isFault } from '#shared/requests/wire.ts'
import { wireFormat } from '#shared/requests/wires.ts'

/** The tables of docs/openai.md and docs/anthropic.md: what a request in a client's format loses on its way to each provider. */

const DESTINATIONS: readonly (Destination & { title: string })[] = [
  { title: 'OpenAI, models that reason', provider: 'openai', format: 'openai', model: 'gpt-5.4' },
  { title: 'OpenAI, other models', provider: 'openai', format: 'openai', model: 'gpt-4.1' },
  { title: 'Google', provider: 'google', format: 'openai', model: 'gemini-3.8-flash' },
  { title: 'DeepSeek', provider: 'deepseek', format: 'openai', model: 'deepseek-v4-pro' },
  { title: 'compatible servers', provider: 'vllm', format: 'openai', model: 'a-model' },
  { title: 'Anthropic', provider: 'anthropic', format: 'anthropic', model: 'claude-opus-5-5' },
  { title: 'Ollama', provider: 'ollama', format: 'ollama', model: 'a-model' },
]

type Body = Record<string, unknown>
type Probes = { minimal: Body; probes: Record<string, Body> }

const DATA = 'AAAA'
const chatPart = (part: Body): Body => ({ messages: [{ role: 'user', content: [part] }] })
const FUNCTION = { name: 'f', parameters: { type: 'object', properties: {} } }

const CHAT: Probes = {
  minimal: { messages: [{ role: 'user', content: 'Hi' }] },
  probes: {
    '`tools`': { tools: [{ type: 'function', function: FUNCTION }] },
    '`tool_choice`: `required`, or a function': {
      tools: [{ type: 'function', function: FUNCTION }],
      tool_choice: 'required',
    },
    '`parallel_tool_calls`: `false`': {
      tools: [{ type: 'function', function: FUNCTION }],
      parallel_tool_calls: false,
    },
    'custom tools': { tools: [{ type: 'custom', custom: { name: 'c' } }] },
    '`response_format`': { response_format: { type: 'json_object' } },
    'images by URL': chatPart({ type: 'image_url', image_url: { url: 'https://a.example/b.png' } }),
    'images as data URLs': chatPart({ type: 'image_url', image_url: { url: `data:image/png;base64,${DATA}` } }),
    'documents (`file_data`)': chatPart({
      type: 'file',
      file: { filename: 'a.pdf', file_data: `data:application/pdf;base64,${DATA}` },
    }),
    'documents by `file_id`': chatPart({ type: 'file', file: { file_id: 'file-1' } }),
    '`input_audio`': chatPart({ type: 'input_audio', input_audio: { data: DATA, format: 'wav' } }),
    '`modalities` with audio': { modalities: ['text', 'audio'], audio: { voice: 'a', format: 'mp3' } },
    '`stop`': { stop: ['END'] },
    '`temperature`': { temperature: 0.5 },
    '`temperature` above 1': { temperature: 1.5 },
    '`top_p`': { top_p: 0.5 },
    '`presence_penalty`, `frequency_penalty`': { presence_penalty: 1, frequency_penalty: 1 },
    '`seed`': { seed: 1 },
    '`logit_bias`': { logit_bias: { 1: 1 } },
    '`logprobs`': { logprobs: true },
    '`n` above 1': { n: 2 },
    '`reasoning_effort`': { reasoning_effort: 'high' },
    '`verbosity`': { verbosity: 'low' },
    '`web_search_options`': { web_search_options: {} },
    '`name` of messages': { messages: [{ role: 'user', name: 'Ann', content: 'Hi' }] },
    'instructions in the middle': {
      messages: [
        { role: 'user', content: 'Hi' },
        { role: 'developer', content: 'Be brief' },
        { role: 'user', content: 'Bye' },
      ],
    },
  },
}

const responsesPart = (part: Body): Body => ({ input: [{ role: 'user', content: [part] }] })
const flat = { type: 'function', ...FUNCTION }

const RESPONSES: Probes = {
  minimal: { input: 'Hi' },
  probes: {
    'function tools': { tools: [flat] },
    '`tool_choice`: `required`, or a function': { tools: [flat], tool_choice: 'required' },
    '`parallel_tool_calls`: `false`': { tools: [flat], parallel_tool_calls: false },
    'hosted and custom tools': { tools: [{ type: 'web_search' }] },
    '`text.format`': { text: { format: { type: 'json_object' } } },
    '`text.verbosity`': { text: { verbosity: 'low' } },
    'images by URL': responsesPart({ type: 'input_image', image_url: 'https://a.example/b.png' }),
    'images as data URLs': responsesPart({ type: 'input_image', image_url: `data:image/png;base64,${DATA}` }),
    'images by `file_id`': responsesPart({ type: 'input_image', file_id: 'file-1' }),
    'documents (`file_data`)': responsesPart({
      type: 'input_file',
      filename: 'a.pdf',
      file_data: `data:application/pdf;base64,${DATA}`,
    }),
    'documents by `file_url`': responsesPart({ type: 'input_file', file_url: 'https://a.example/b.pdf' }),
    'documents by `file_id`': responsesPart({ type: 'input_file', file_id: 'file-1' }),
    '`temperature`, `top_p`': { temperature: 0.5, top_p: 0.5 },
    '`reasoning.effort`': { reasoning: { effort: 'high' } },
    'log probabilities': { top_logprobs: 2 },
    '`truncation`: `auto`': { truncation: 'auto' },
    '`prompt`': { prompt: { id: 'pmpt_1' } },
  },
}

const messagesBlock = (block: Body): Body => ({ messages: [{ role: 'user', content: [block] }] })
const TOOL = { name: 'f', input_schema: { type: 'object', properties: {} } }
const PDF = { type: 'base64', media_type: 'application/pdf', data: DATA }
const CALL = { type: 'tool_use', id: 'a', name: 'f', input: {} }
const IMAGE = { type: 'image', source: { type: 'base64', media_type: 'image/png', data: DATA } }

const MESSAGES: Probes = {
  minimal: { model: 'a-model', max_tokens: 4096, messages: [{ role: 'user', content: 'Hi' }] },
  probes: {
    '`tools`': { tools: [TOOL] },
    '`tool_choice`: `any`, or a tool': { tools: [TOOL], tool_choice: { type: 'any' } },
    '`disable_parallel_tool_use`': { tools: [TOOL], tool_choice: { type: 'auto', disable_parallel_tool_use: true } },
    'Anthropic’s own tools': { tools: [{ type: 'web_search_20260209', name: 'web_search' }] },
    '`output_config.format`': { output_config: { format: { type: 'json_schema', schema: { type: 'object' } } } },
    '`output_config.effort`': { output_config: { effort: 'high' } },
    'images by URL': messagesBlock({ type: 'image', source: { type: 'url', url: 'https://a.example/b.png' } }),
    'images as base64': messagesBlock(IMAGE),
    'images in tool results': {
      tools: [TOOL],
      messages: [
        { role: 'user', content: 'Hi' },
        { role: 'assistant', content: [CALL] },
        { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'a', content: [IMAGE] }] },
      ],
    },
    'images and documents by `file_id`': messagesBlock({
      type: 'document',
      source: { type: 'file', file_id: 'file_1' },
    }),
    'documents as base64': messagesBlock({ type: 'document', source: PDF }),
    'documents by URL': messagesBlock({ type: 'document', source: { type: 'url', url: 'https://a.example/b.pdf' } }),
    'documents as text': messagesBlock({
      type: 'document',
      source: { type: 'text', media_type: 'text/plain', data: 'Hi' },
    }),
    citations: messagesBlock({ type: 'document', source: PDF, citations: { enabled: true } }),
    '`thinking`': { thinking: { type: 'enabled', budget_tokens: 1024 } },
    '`stop_sequences`': { stop_sequences: ['END'] },
    '`temperature`': { temperature: 0.5 },
    '`top_p`': { top_p: 0.5 },
    '`top_k`': { top_k: 5 },
    '`cache_control`': { cache_control: { type: 'ephemeral' } },
    '`container`, `mcp_servers`': { mcp_servers: [] },
  },
}

const PROBES: Record<Wire, Probes> = {
  'openai-chat': CHAT,
  'openai-responses': RESPONSES,
  'anthropic-messages': MESSAGES,
}

/** A Markdown table of one client's format. Providers that receive the request as it is have no column. */
export function lossesTable(wire: Wire): string {
  const probes = PROBES[wire]
  const requests = Object.entries(probes.probes).map(([title, body]) => ({
    title,
    request: read(wire, { ...probes.minimal, ...body }),
  }))
  const columns = DESTINATIONS.filter(one => !isForwarded(one, read(wire, probes.minimal)))
  const rows = requests.flatMap(({ title, request }) => {
    const cells = columns.map(one => (lossesOf(one, request).length > 0 ? 'lost' : ''))
    return cells.some(one => one !== '') ? [[title, ...cells]] : []
  })
  const kept = requests
    .filter(({ request }) => columns.every(one => lossesOf(one, request).length === 0))
    .map(one => one.title)
  const table = aligned([['parameter', ...columns.map(one => one.title)], ...rows])
  return kept.length > 0 ? `${table}\n\nNothing is lost of: ${kept.join('; ')}.` : table
}

/** A Markdown table as the formatter writes it. */
function aligned(rows: string[][]): string {
  const widths = rows[0]!.map((_, column) => Math.max(3, ...rows.map(one => one[column]!.length)))
  const line = (cells: string[]) => `| ${cells.map((cell, i) => cell.padEnd(widths[i]!)).join(' | ')} |`
  const [head, ...others] = rows.map(line)
  return [head, line(widths.map(width => '-'.repeat(width))), ...others].join('\n')
}

function read(wire: Wire, body: Body) {
  const parsed = wireFormat(wire).parse(body)
  if (isFault(parsed)) throw new Error(`${wire}: ${parsed.param}: ${parsed.message}`)
  return wholeRequest(parsed)
}
