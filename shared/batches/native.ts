import type { JobKind } from '#shared/jobs/define.ts'
import { findUnstorable, isTooDeep, MAX_DEPTH } from '#shared/text.ts'
import { type Fault, inputCheck, isObject, modelOf, ofLine, optionsCheck, shown } from './checks.ts'
import { splitElements } from './elements.ts'
import { type Mapping, planRows } from './mapping.ts'
import { customIdFault, parse } from './openai.ts'
import { splitLines } from './records.ts'
import { readTable } from './table.ts'
import type { Bytes, LineProblem, ParsedLine, ProblemCode, ReadOptions } from './types.ts'

const MAX_METADATA_BYTES = 16_384

type Reader = (line: number, record: unknown) => ParsedLine | LineProblem

/** The records of a native batch. Each must be a task that the API would have accepted; else the batch fails. */
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
      // Without its header a table says nothing.
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

function nativeReader(job: JobKind, { options: shared, knowsModel }: ReadOptions): Reader {
  const checkInput = inputCheck(job)
  const checkOptions = optionsCheck(job)
  const defaults = ofLine(shared)

  return (line, record) => {
    const wrong = (code: ProblemCode, param: string | null, message: string): LineProblem => ({
      line,
      code,
      message,
      param,
    })
    const faulty = (code: ProblemCode, { field, message }: Fault) => wrong(code, field, `${field} ${message}`)
    if (!isObject(record)) return wrong('invalid_record', null, 'It is not an object.')
    if (isTooDeep(record)) return wrong('invalid_record', null, `It is nested deeper than ${MAX_DEPTH} levels.`)
    const unstorable = findUnstorable(record)
    if (unstorable !== null) {
      return wrong('invalid_text', shown(unstorable), 'It holds U+0000 or half of a surrogate pair.')
    }
    const {
      input,
      custom_id = null,
      options = {},
      metadata = null,
      ...more
    } = isEnvelope(record) ? record : { input: record }
    const unknown = Object.keys(more)[0]
    if (unknown !== undefined) return wrong('invalid_record', shown(`/${unknown}`), `/${shown(unknown)} is not known`)
    const named = custom_id === null ? null : customIdFault(custom_id)
    if (named) return wrong('invalid_custom_id', '/custom_id', named)
    if (!isObject(options)) return wrong('invalid_options', '/options', '/options must be object')
    if (metadata !== null && !isObject(metadata))
      return wrong('invalid_metadata', '/metadata', '/metadata must be object')
    if (metadata !== null && Buffer.byteLength(JSON.stringify(metadata)) > MAX_METADATA_BYTES) {
      return wrong('invalid_metadata', '/metadata', `/metadata must be at most ${MAX_METADATA_BYTES} bytes`)
    }
    const merged = { ...defaults, ...options }
    const optionsFault = checkOptions(merged)
    if (optionsFault) return faulty('invalid_options', optionsFault)
    const inputFault = checkInput(input)
    if (inputFault) return faulty('invalid_input', inputFault)
    const model = modelOf(merged)
    if (model !== null && !knowsModel(model)) {
      return wrong(
        'model_not_found',
        '/options/model',
        `No provider that is configured has the model "${shown(model)}".`,
      )
    }
    return { line, customId: custom_id as string | null, kind: job.kind, input, options: merged, metadata }
  }
}

type Envelope = { input: unknown; custom_id?: unknown; options?: unknown; metadata?: unknown }

/** Whoever has a kind whose input has a field `input` must use the envelope. */
const isEnvelope = (record: Record<string, unknown>): record is Envelope => Object.hasOwn(record, 'input')
