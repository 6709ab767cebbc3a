import type { TaskError } from '#shared/errors.ts'
import { parseJson, toDoubles } from '#shared/json/lossless.ts'
import { findUnstorable, isTooDeep, MAX_DEPTH } from '#shared/text.ts'
import {
  type Check,
  excerpt,
  type Fault,
  inputCheck,
  isObject,
  lineOptionsAmong,
  modelOf,
  optionsCheck,
} from './checks.ts'
import { type Endpoint, findUnsupportedField, isRejected, rejection } from './endpoints/define.ts'
import { ENDPOINTS, OPENAI_ENDPOINTS } from './endpoints/index.ts'
import type { RawRecord } from './jsonl.ts'
import {
  type LineProblem,
  MAX_CUSTOM_ID,
  type ParsedLine,
  type ProblemCode,
  type ReadOptions,
  type Rejected,
} from './types.ts'

/**
 * Creates a reader of OpenAI lines, `{custom_id, method, url, body}`. As in OpenAI's API, a malformed line fails the batch, while an
 * invalid request in its body, including an unknown model, fails only that line.
 */
export function openAiReader({
  endpoint,
  jobs,
  options,
  isKnownModel,
  unknownModelMessage,
}: ReadOptions): (record: RawRecord) => ParsedLine | LineProblem {
  const served = ENDPOINTS.get(endpoint ?? '')
  const job = served && jobs.get(served.kind)
  if (!job) throw new Error(`a batch for "${endpoint}" should not have been created`)
  const aLine = `A line must look like {"custom_id": "1", "method": "POST", "url": "${endpoint}", "body": {"model": …}}.`
  const reader: BodyReader = {
    endpoint: served,
    defaults: lineOptionsAmong(options),
    checkInput: inputCheck(job),
    checkOptions: optionsCheck(),
    isKnownModel,
    ...(unknownModelMessage && { unknownModelMessage }),
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
      return wrong('invalid_json_line', null, `This line is not valid JSON: ${request.unparseable}. ${aLine}`)
    const { value } = request
    if (!isObject(value)) return wrong('invalid_json_line', null, `This line is not a JSON object. ${aLine}`)
    for (const name of ['custom_id', 'method', 'url', 'body']) {
      if (value[name] !== undefined && value[name] !== null) continue
      return wrong(
        'missing_required_parameter',
        name,
        `Missing required parameter: '${name}'. ${hintFor(value, aLine)}`,
      )
    }
    const { custom_id, method, url, body } = value
    const named = customIdProblem(custom_id)
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

/** A hint for a line without one of the four fields. */
function hintFor(line: Record<string, unknown>, aLine: string): string {
  if (Object.hasOwn(line, 'input') && !Object.hasOwn(line, 'model') && !Object.hasOwn(line, 'body'))
    return `${aLine} Records of a job kind ({"input": …}) are sent to POST /api/v1/batches.`
  return Object.hasOwn(line, 'messages') || Object.hasOwn(line, 'model')
    ? `${aLine} The request belongs into 'body'.`
    : aLine
}

type BodyReader = Pick<ReadOptions, 'isKnownModel' | 'unknownModelMessage'> & {
  endpoint: Endpoint
  defaults: Record<string, unknown>
  checkInput: Check
  checkOptions: Check
}

/** Translates the body to the input and options of a task. @returns a rejection with status 4xx if the body is invalid */
function readBody(body: Record<string, unknown>, reader: BodyReader) {
  const { endpoint, checkInput, checkOptions } = reader
  if (isTooDeep(body)) return rejection('invalid_value', null, `The body is nested deeper than ${MAX_DEPTH} levels.`)
  const unstorable = findUnstorable(body)
  if (unstorable !== null) {
    return rejection(
      'invalid_value',
      paramOf(unstorable),
      'The body contains U+0000 or half of a surrogate pair, which cannot be stored.',
    )
  }
  const unnamed = endpoint.isPlaceholderModel?.(body.model) ?? false
  if (!unnamed && (body.model === undefined || body.model === null)) {
    return rejection('missing_required_parameter', 'model', "Missing required parameter: 'model'.")
  }
  if (!unnamed && typeof body.model !== 'string') return rejection('invalid_type', 'model', "'model' must be a string.")
  const model = unnamed ? {} : { model: body.model as string }
  const unsupported = findUnsupportedField(body, endpoint.fields)
  if (unsupported) return unsupported
  const asked = endpoint.read(body)
  if (isRejected(asked)) return asked
  const said = Object.entries(toDoubles(asked.options)).filter(([, value]) => value !== undefined && value !== null)
  const { input } = asked
  // Answers must come from a model, and be new.
  const options = { ...reader.defaults, ...Object.fromEntries(said), ...model, cache: 'off', fallback: 'none' }
  const fault = checkOptions(options) ?? checkInput(input)
  if (fault) return fromFault(fault, endpoint)
  if (model.model !== undefined && !reader.isKnownModel(modelOf(options)!)) {
    const why = reader.unknownModelMessage?.(model.model) ?? 'No configured provider has it.'
    const message = `The model '${model.model}' does not exist or is not available here. ${why}`
    return rejection('model_not_found', 'model', message, 404)
  }
  return { input, options: endpoint.refusals ? { ...options, refusals: 'result' } : options }
}

const CODES: Record<string, string> = {
  type: 'invalid_type',
  required: 'missing_required_parameter',
  maxLength: 'string_above_max_length',
}

function fromFault({ field, keyword, message }: Fault, { params }: Endpoint): Rejected {
  // Positions within joined turns would be misleading.
  const top = field.split('/').slice(0, 3).join('/')
  const param = params[top] ?? paramOf(top.slice(1).replace(/^\w+/, ''))
  return rejection(CODES[keyword] ?? 'invalid_value', param, `'${param}' ${message}.`)
}

/** `/messages/0/content` -> `messages[0].content` */
const paramOf = (pointer: string): string =>
  excerpt(
    pointer
      .split('/')
      .slice(1)
      .map((part, i) => (/^\d+$/.test(part) ? `[${part}]` : i === 0 ? part : `.${part}`))
      .join(''),
  )

/** The problem with a custom_id; null: none. */
export function customIdProblem(id: unknown): string | null {
  if (typeof id !== 'string') return "'custom_id' must be a string."
  if (id === '') return "'custom_id' must not be empty."
  if (id.length > MAX_CUSTOM_ID) return `'custom_id' must have at most ${MAX_CUSTOM_ID} characters.`
  return findUnstorable(id) === null ? null : "'custom_id' contains U+0000 or half of a surrogate pair."
}

export function parse(text: string): { value: unknown } | { unparseable: string } {
  try {
    return { value: parseJson(text) }
  } catch (error) {
    // The message quotes the text.
    return { unparseable: excerpt((error as Error).message, 200) }
  }
}

/** The error of the task of a rejected line. Its response is written from it. */
export const rejectedError = ({ status, error }: Rejected): TaskError => {
  const { message, ...context } = error
  return { code: 'invalid_request', message, context: { status, ...context } }
}
