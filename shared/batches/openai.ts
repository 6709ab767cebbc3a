import type { TaskError } from '#shared/errors.ts'
import { findUnstorable, isTooDeep, MAX_DEPTH } from '#shared/text.ts'
import { type Check, type Fault, inputCheck, isObject, modelOf, ofLine, optionsCheck, shown } from './checks.ts'
import { type Endpoint, isRejected, refused, reject } from './endpoints/define.ts'
import { ENDPOINTS, OPENAI_ENDPOINTS } from './endpoints/index.ts'
import type { RawRecord } from './records.ts'
import {
  type LineProblem,
  MAX_CUSTOM_ID,
  type ParsedLine,
  type ProblemCode,
  type ReadOptions,
  type Rejected,
} from './types.ts'

/**
 * A reader of OpenAI's lines, `{custom_id, method, url, body}`. What is wrong with the line itself fails the batch, as it
 * does there; what is wrong with its body as a request, an unknown model included, is the answer to that line alone.
 */
export function openAiReader({
  endpoint,
  jobs,
  options,
  knowsModel,
}: ReadOptions): (record: RawRecord) => ParsedLine | LineProblem {
  const served = ENDPOINTS.get(endpoint ?? '')
  const job = served && jobs.get(served.kind)
  if (!job) throw new Error(`a batch for "${endpoint}" should not have been created`)
  const reader: BodyReader = {
    endpoint: served,
    defaults: { ...ofLine(options), ...(job.operation === 'chat' && { max_tokens: job.maxTokens }) },
    checkInput: inputCheck(job),
    checkOptions: optionsCheck(),
    knowsModel,
  }

  return record => {
    if (!('text' in record)) return record
    const { line, text } = record
    const wrong = (code: ProblemCode, param: string | null, message: string): LineProblem => ({
      line,
      code,
      message,
      param,
    })
    const request = parse(text)
    if ('unparseable' in request)
      return wrong('invalid_json_line', null, `This line is not valid JSON: ${request.unparseable}`)
    const { value } = request
    if (!isObject(value)) return wrong('invalid_json_line', null, 'This line is not a JSON object.')
    for (const name of ['custom_id', 'method', 'url', 'body']) {
      if (value[name] !== undefined && value[name] !== null) continue
      return wrong('missing_required_parameter', name, `Missing required parameter: '${name}'.`)
    }
    const { custom_id, method, url, body } = value
    const named = customIdFault(custom_id)
    if (named) return wrong('invalid_custom_id', 'custom_id', named)
    if (method !== 'POST') return wrong('invalid_method', 'method', "'method' must be 'POST'.")
    if (url !== endpoint) {
      return typeof url === 'string' && (OPENAI_ENDPOINTS as readonly string[]).includes(url)
        ? wrong('url_mismatch', 'url', `'${url}' is not the endpoint of this batch, ${endpoint}.`)
        : wrong('invalid_url', 'url', `'url' must be the endpoint of this batch, ${endpoint}.`)
    }
    if (!isObject(body)) return wrong('invalid_type', 'body', "'body' must be an object.")
    if (body.stream === true) return wrong('streaming_unsupported', 'body.stream', 'A batch cannot stream.')

    const asked = readBody(body, reader)
    const common = { line, customId: custom_id as string, kind: served.kind }
    return isRejected(asked) ? { ...common, input: {}, options: {}, rejected: asked } : { ...common, ...asked }
  }
}

type BodyReader = Pick<ReadOptions, 'knowsModel'> & {
  endpoint: Endpoint
  defaults: Record<string, unknown>
  checkInput: Check
  checkOptions: Check
}

/** The body as a task's input and options, or the 4xx that is its answer. */
function readBody(body: Record<string, unknown>, reader: BodyReader) {
  const { endpoint, checkInput, checkOptions } = reader
  if (isTooDeep(body)) return reject('invalid_value', null, `The body is nested deeper than ${MAX_DEPTH} levels.`)
  const unstorable = findUnstorable(body)
  if (unstorable !== null) {
    return reject(
      'invalid_value',
      paramOf(unstorable),
      'It holds U+0000 or half of a surrogate pair, which cannot be stored.',
    )
  }
  const unnamed = endpoint.isUnnamed?.(body.model) ?? false
  if (!unnamed && (body.model === undefined || body.model === null)) {
    return reject('missing_required_parameter', 'model', "Missing required parameter: 'model'.")
  }
  if (!unnamed && typeof body.model !== 'string') return reject('invalid_type', 'model', "'model' must be a string.")
  const model = unnamed ? {} : { model: body.model as string }
  const unsupported = refused(body, endpoint.fields)
  if (unsupported) return unsupported
  const asked = endpoint.read(body)
  if (isRejected(asked)) return asked
  const said = Object.entries(asked.options).filter(([, value]) => value !== undefined && value !== null)
  const { input } = asked
  // A template must never pass for a model, nor an old answer for a new one.
  const options = { ...reader.defaults, ...Object.fromEntries(said), ...model, cache: 'off', fallback: 'none' }
  const fault = checkOptions(options) ?? checkInput(input)
  if (fault) return fromFault(fault, endpoint)
  if (model.model !== undefined && !reader.knowsModel(modelOf(options)!)) {
    const message = `The model '${model.model}' does not exist, or none of the providers that are configured has it.`
    return reject('model_not_found', 'model', message, 404)
  }
  return { input, options }
}

const CODES: Record<string, string> = {
  type: 'invalid_type',
  required: 'missing_required_parameter',
  maxLength: 'string_above_max_length',
}

function fromFault({ field, keyword, message }: Fault, { params }: Endpoint): Rejected {
  // Turns were joined, so that its place within them would mislead.
  const top = field.split('/').slice(0, 3).join('/')
  const param = params[top] ?? paramOf(top.slice(1).replace(/^\w+/, ''))
  return reject(CODES[keyword] ?? 'invalid_value', param, `'${param}' ${message}.`)
}

/** `/messages/0/content` -> `messages[0].content` */
const paramOf = (pointer: string): string =>
  shown(
    pointer
      .split('/')
      .slice(1)
      .map((part, i) => (/^\d+$/.test(part) ? `[${part}]` : i === 0 ? part : `.${part}`))
      .join(''),
  )

/** What is wrong with a client's name for a line; null: nothing. */
export function customIdFault(id: unknown): string | null {
  if (typeof id !== 'string') return "'custom_id' must be a string."
  if (id === '') return "'custom_id' must not be empty."
  if (id.length > MAX_CUSTOM_ID) return `'custom_id' must have at most ${MAX_CUSTOM_ID} characters.`
  return findUnstorable(id) === null ? null : "'custom_id' holds U+0000 or half of a surrogate pair."
}

export function parse(text: string): { value: unknown } | { unparseable: string } {
  try {
    return { value: JSON.parse(text) }
  } catch (error) {
    // It quotes what it could not read.
    return { unparseable: shown((error as Error).message, 200) }
  }
}

/** The error of a rejected line's task, from which its answer is written. */
export const rejectedError = ({ status, error }: Rejected): TaskError => {
  const { message, ...context } = error
  return { code: 'invalid_request', message, context: { status, ...context } }
}
