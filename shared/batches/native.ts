import type { JobKind } from '#shared/jobs/define.ts'
import { doublesWhereTyped, toDoubles } from '#shared/json/lossless.ts'
import { faultSentence } from '#shared/json/schema-fault.ts'
import { findUnstorable, isTooDeep, MAX_DEPTH } from '#shared/text.ts'
import { excerpt, type Fault, inputCheck, isObject, lineOptionsAmong, modelOf, optionsCheck } from './checks.ts'
import { readTable } from './csv.ts'
import { splitElements } from './json-array.ts'
import { splitLines } from './jsonl.ts'
import { type Mapping, planRows } from './mapping.ts'
import { customIdProblem, parse } from './openai.ts'
import type { Bytes, LineProblem, ParsedLine, ProblemCode, ReadOptions } from './types.ts'

const MAX_METADATA_BYTES = 16_384

type Reader = (line: number, record: unknown) => ParsedLine | LineProblem

/** Reads the records of a native batch. A record that the API would not accept as a task fails the batch. */
export async function* nativeLines(bytes: Bytes, options: ReadOptions): AsyncGenerator<ParsedLine | LineProblem> {
  const job = options.jobs.get(options.kind ?? '')
  if (!job) throw new Error(`a batch of kind "${options.kind}" should not have been created`)
  const mapping = options.mapping ?? { format: 'jsonl' }
  const read = nativeReader(job, options)
  if (mapping.format === 'csv') {
    yield* rows(bytes, mapping, job, read)
    return
  }
  const code = mapping.format === 'json' ? 'invalid_json' : 'invalid_json_line'
  for await (const record of mapping.format === 'json' ? splitElements(bytes) : splitLines(bytes)) {
    if (!('text' in record)) {
      yield record
      continue
    }
    const { line, text } = record
    const parsed = parse(text)
    yield 'value' in parsed
      ? read(line, parsed.value)
      : { line, code, message: `It is not valid JSON: ${parsed.unparseable}`, param: null }
  }
}

async function* rows(bytes: Bytes, mapping: Mapping, job: JobKind, read: Reader) {
  let width = 0
  let record: ReturnType<typeof planRows> | null = null
  for await (const row of readTable(bytes, mapping.delimiter ?? ',')) {
    if (!('cells' in row)) {
      yield row
      // Rows are meaningless without their header.
      if (record === null) return
      continue
    }
    const { line, cells } = row
    if (record === null) {
      width = cells.length
      record = planRows(
        cells.map(cell => cell.trim()),
        mapping,
        job,
      )
      if (typeof record === 'function') continue
      yield { line, code: 'invalid_mapping', message: record.wrong, param: null } satisfies LineProblem
      return
    }
    if (typeof record !== 'function') return
    if (cells.length === width) yield read(line, record(cells))
    else {
      const message = `It has ${cells.length} cells, the header ${width}.`
      yield { line, code: 'invalid_csv_record', message, param: null } satisfies LineProblem
    }
  }
}

function nativeReader(job: JobKind, { options: shared, isKnownModel, unknownModelMessage }: ReadOptions): Reader {
  const checkInput = inputCheck(job)
  const checkOptions = optionsCheck(job)
  const defaults = lineOptionsAmong(shared)

  return (line, record) => {
    const wrong = (code: ProblemCode, param: string | null, message: string): LineProblem => ({
      line,
      code,
      message,
      param,
    })
    const faulty = (code: ProblemCode, fault: Fault) => wrong(code, fault.field, `${faultSentence(fault)}.`)
    if (!isObject(record)) return wrong('invalid_record', null, `A record must be a JSON object: ${A_RECORD}.`)
    if (isTooDeep(record)) return wrong('invalid_record', null, `It is nested deeper than ${MAX_DEPTH} levels.`)
    const unstorable = findUnstorable(record)
    if (unstorable !== null) {
      return wrong('invalid_text', excerpt(unstorable), 'It contains U+0000 or half of a surrogate pair.')
    }
    if (isOpenAiLine(record)) return wrong('openai_line', null, useOpenAi(record.url))
    const {
      input: given,
      custom_id = null,
      options = {},
      metadata = null,
      ...more
    } = isEnvelope(record) ? record : { input: record }
    const unknown = Object.keys(more)[0]
    if (unknown !== undefined) {
      const message = `Unknown field \`${excerpt(unknown)}\`; a record has input, custom_id, options, metadata.`
      return wrong('invalid_record', excerpt(`/${unknown}`), message)
    }
    const named = custom_id === null ? null : customIdProblem(custom_id)
    if (named) return wrong('invalid_custom_id', '/custom_id', named)
    if (!isObject(options)) return wrong('invalid_options', '/options', '`options` must be an object.')
    if (metadata !== null && !isObject(metadata))
      return wrong('invalid_metadata', '/metadata', '`metadata` must be an object.')
    if (metadata !== null && Buffer.byteLength(JSON.stringify(metadata)) > MAX_METADATA_BYTES) {
      return wrong('invalid_metadata', '/metadata', `\`metadata\` must have at most ${MAX_METADATA_BYTES} bytes.`)
    }
    const merged = { ...defaults, ...toDoubles(options) }
    const optionsFault = checkOptions(merged)
    if (optionsFault) return faulty('invalid_options', optionsFault)
    const input = doublesWhereTyped(given, job.input)
    const inputFault = checkInput(input)
    if (inputFault) return faulty('invalid_input', inputFault)
    const model = modelOf(merged)
    if (model !== null && !isKnownModel(model)) {
      return wrong(
        'model_not_found',
        '/options/model',
        unknownModelMessage?.(model) ?? `No configured provider has the model "${excerpt(model)}".`,
      )
    }
    return { line, customId: custom_id as string | null, kind: job.kind, input, options: merged, metadata }
  }
}

const A_RECORD = 'the input of the job kind, or {"input": …, "custom_id": …, "options": …, "metadata": …}'

/** Whether a record is a line for OpenAI's batch API. */
const isOpenAiLine = (record: Record<string, unknown>): boolean =>
  !isEnvelope(record) && ['custom_id', 'method', 'url', 'body'].every(name => Object.hasOwn(record, name))

const useOpenAi = (url: unknown): string =>
  `This is a line of OpenAI's batch API (custom_id, method, url, body). Upload the file with POST /v1/files (purpose "batch") and start it with POST /v1/batches (endpoint ${JSON.stringify(excerpt(String(url)))}).`

type Envelope = { input: unknown; custom_id?: unknown; options?: unknown; metadata?: unknown }

/** Inputs with a field `input` of their own must be sent in an envelope. */
const isEnvelope = (record: Record<string, unknown>): record is Envelope => Object.hasOwn(record, 'input')
