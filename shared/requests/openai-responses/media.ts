import { base64Problem, imageProblem, splitDataUrl } from '../media.ts'
import { among, type Fields, fault, missing, optional, text } from '../openai-fields.ts'
import type { DocumentPart, ImagePart, Source } from '../request.ts'

const DETAILS = ['auto', 'low', 'high', 'original'] as const

export function readImage(part: Fields, at: string): ImagePart {
  const url = optional(part.image_url, `${at}.image_url`, text)
  const id = optional(part.file_id, `${at}.file_id`, text)
  const detail = optional(part.detail, `${at}.detail`, among(DETAILS))
  const source =
    url === undefined
      ? id === undefined
        ? missing(`${at}.image_url`)
        : fileSource(id)
      : urlSource(url, `${at}.image_url`)
  if (source.kind === 'base64') refuse('invalid_image', `${at}.image_url`, imageProblem(source))
  return { type: 'image', source, ...(detail && { detail }) }
}

export function readFile(part: Fields, at: string): DocumentPart {
  const title = optional(part.filename, `${at}.filename`, text)
  const data = optional(part.file_data, `${at}.file_data`, text)
  const url = optional(part.file_url, `${at}.file_url`, text)
  const id = optional(part.file_id, `${at}.file_id`, text)
  const source =
    data !== undefined
      ? dataSource(data, `${at}.file_data`)
      : url !== undefined
        ? urlSource(url, `${at}.file_url`)
        : id !== undefined
          ? fileSource(id)
          : missing(`${at}.file_id`)
  if (source.kind === 'base64')
    refuse('invalid_value', `${at}.${data === undefined ? 'file_url' : 'file_data'}`, base64Problem(source.data))
  return { type: 'document', source, ...(title !== undefined && { title }) }
}

const fileSource = (id: string): Source => ({ kind: 'file', id })

const urlSource = (url: string, param: string): Source =>
  url.startsWith('data:')
    ? dataSource(url, param)
    : /^https?:\/\//.test(url)
      ? { kind: 'url', url }
      : fault('invalid_value', param, `Invalid '${param}': expected an http(s) URL or a base64 data URL.`)

function refuse(code: string, param: string, problem: string | null): void {
  if (problem !== null) fault(code, param, `Invalid '${param}': ${problem}.`)
}

function dataSource(url: string, param: string): Source {
  const split = splitDataUrl(url)
  if (!split)
    return fault(
      'invalid_value',
      param,
      `Invalid '${param}': expected a base64-encoded data URL, data:<type>;base64,<data>.`,
    )
  return { kind: 'base64', ...split }
}
