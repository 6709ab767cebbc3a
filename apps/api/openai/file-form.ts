import { Type } from 'typebox'
import { SluiceError } from '#shared/errors.ts'
import { type FormFields, invalid } from '../http/receive-file.ts'

/** The form of a file upload. */

/** Purposes that a client may upload files for. Batches read files of `batch`; the others are only stored. */
export const UPLOAD_PURPOSES = ['assistants', 'batch', 'evals', 'fine-tune', 'user_data', 'vision'] as const
/** Purposes that OpenAI's servers write files for. This server writes `batch_output`. */
export const OUTPUT_PURPOSES = ['assistants_output', 'batch_output', 'fine-tune-results'] as const

const EXPIRES_AFTER = { min: 3600, max: 2_592_000 }
const ANCHOR = 'expires_after[anchor]'
const SECONDS = 'expires_after[seconds]'

export const fileForm = Type.Object(
  {
    file: Type.Unsafe<string>({ type: 'string', format: 'binary' }),
    purpose: Type.Enum([...UPLOAD_PURPOSES]),
    [ANCHOR]: Type.Optional(Type.Literal('created_at')),
    [SECONDS]: Type.Optional(
      Type.Integer({
        minimum: EXPIRES_AFTER.min,
        maximum: EXPIRES_AFTER.max,
        description: 'Default: the setting `FILE_RETENTION_DAYS`.',
      }),
    ),
  },
  { additionalProperties: false },
)

/** @throws SluiceError invalid_request, unknown_field */
export function checkFileField(name: string, value: string): void {
  if (name === 'purpose') {
    if ((UPLOAD_PURPOSES as readonly string[]).includes(value)) return
    const rule = (OUTPUT_PURPOSES as readonly string[]).includes(value)
      ? `must not be "${value}", which only the server writes; it must be`
      : 'must be'
    throw invalid(name, `${rule} one of ${UPLOAD_PURPOSES.join(', ')}`)
  } else if (name === ANCHOR) {
    if (value !== 'created_at') throw invalid(name, 'must be "created_at"')
  } else if (name === SECONDS) {
    const { min, max } = EXPIRES_AFTER
    if (!/^\d{1,9}$/.test(value) || Number(value) < min || Number(value) > max)
      throw invalid(name, `must be a whole number from ${min} to ${max}`)
  } else {
    throw new SluiceError(
      'unknown_field',
      `Unknown field \`${name.slice(0, 100)}\`; known here: file, purpose, ${ANCHOR}, ${SECONDS}.`,
      { context: { field: `/${name.slice(0, 100)}` } },
    )
  }
}

/** Reads the complete form. @throws SluiceError invalid_request, if a field is missing */
export function readFileForm(fields: FormFields): { purpose: string; expiresSeconds?: number } {
  if (fields.purpose === undefined)
    throw invalid('purpose', `is missing; it must be one of ${UPLOAD_PURPOSES.join(', ')}`, { rule: 'required' })
  const [anchor, seconds] = [fields[ANCHOR], fields[SECONDS]]
  if (seconds === undefined && anchor !== undefined)
    throw invalid(SECONDS, `is missing; ${ANCHOR} requires it`, { rule: 'required' })
  if (seconds !== undefined && anchor === undefined)
    throw invalid(ANCHOR, `is missing; ${SECONDS} requires it, with the value "created_at"`, { rule: 'required' })
  return { purpose: fields.purpose, ...(seconds !== undefined && { expiresSeconds: Number(seconds) }) }
}
