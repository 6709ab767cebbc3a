import { base64Problem, imageProblem, splitDataUrl } from '../media.ts'
import { among, type Fields, fault, fields, optional, required, text } from '../openai-fields.ts'
import type { Source, UserPart } from '../request.ts'

/** Reads a part of a user's message. @returns null: a part that only OpenAI knows, which is then in `untranslated` */
export function readUserPart(given: unknown, path: string, untranslated: string[]): UserPart | null {
  const part = fields(given, path)
  switch (required(part.type, `${path}.type`, text)) {
    case 'text':
      return { type: 'text', text: required(part.text, `${path}.text`, text) }
    case 'image_url':
      return readImage(required(part.image_url, `${path}.image_url`, fields), `${path}.image_url`)
    case 'input_audio':
      return readAudio(required(part.input_audio, `${path}.input_audio`, fields), `${path}.input_audio`)
    case 'file':
      return readFile(required(part.file, `${path}.file`, fields), `${path}.file`)
    default:
      untranslated.push(path)
      return null
  }
}

function readImage(image: Fields, path: string): UserPart {
  const detail = optional(image.detail, `${path}.detail`, among(['auto', 'low', 'high', 'original']))
  const source = readUrl(required(image.url, `${path}.url`, text), `${path}.url`)
  if (source.kind === 'base64') refuse('invalid_image', `${path}.url`, imageProblem(source))
  return { type: 'image', source, ...(detail && { detail }) }
}

function readAudio(audio: Fields, path: string): UserPart {
  const data = required(audio.data, `${path}.data`, text)
  refuse('invalid_value', `${path}.data`, base64Problem(data))
  return {
    type: 'audio',
    data,
    format: required(audio.format, `${path}.format`, among(['wav', 'mp3'])),
  }
}

function readFile(file: Fields, path: string): UserPart {
  const title = optional(file.filename, `${path}.filename`, text)
  const id = optional(file.file_id, `${path}.file_id`, text)
  const source: Source = id
    ? { kind: 'file', id }
    : readUrl(required(file.file_data, `${path}.file_data`, text), `${path}.file_data`)
  if (source.kind === 'url')
    fault('invalid_value', `${path}.file_data`, `Invalid '${path}.file_data': expected a data URL.`)
  if (source.kind === 'base64') refuse('invalid_value', `${path}.file_data`, base64Problem(source.data))
  return { type: 'document', source, ...(title !== undefined && { title }) }
}

function refuse(code: string, path: string, problem: string | null): void {
  if (problem !== null) fault(code, path, `Invalid '${path}': ${problem}.`)
}

function readUrl(url: string, path: string): Source {
  if (/^https?:\/\//i.test(url)) return { kind: 'url', url }
  const data = splitDataUrl(url)
  if (!data)
    return fault('invalid_value', path, `Invalid '${path}': expected an https URL or a data URL with base64 content.`)
  return { kind: 'base64', ...data }
}
