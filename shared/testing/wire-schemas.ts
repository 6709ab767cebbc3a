import { Ajv, type ValidateFunction } from 'ajv'
import { createGenerator, type Schema } from 'ts-json-schema-generator'
import type { WireTypes } from './wire-types.ts'

export type WireTypeName = keyof WireTypes

const FILE = new URL('wire-types.ts', import.meta.url).pathname
const ROOT = new URL('../..', import.meta.url).pathname

let generator: ReturnType<typeof createGenerator> | undefined
const validators = new Map<WireTypeName, ValidateFunction>()

function validatorOf(name: WireTypeName): ValidateFunction {
  let validator = validators.get(name)
  if (!validator) {
    generator ??= createGenerator({
      path: FILE,
      tsconfig: `${ROOT}/tsconfig.json`,
      type: '*',
      skipTypeCheck: true,
      // A field that the provider does not describe is an error.
      additionalProperties: false,
      expose: 'all',
      topRef: false,
      jsDoc: 'none',
    })
    const schema = generator.createSchema(name[0]!.toUpperCase() + name.slice(1))
    validator = new Ajv({ strict: false, allErrors: true }).compile(asSent(schema))
    validators.set(name, validator)
  }
  return validator
}

type ObjectSchema = { properties?: Record<string, { const?: unknown }>; required?: string[] }

const CALL_DONE = 'response.function_call_arguments.done'

/** What the API sends differs from the SDK's types in three fields. */
const asSent = (schema: Schema): Record<string, unknown> =>
  JSON.parse(JSON.stringify(schema), (_, value: ObjectSchema) => {
    if (value?.properties?.output && value.required?.includes('output_text'))
      return {
        ...value,
        properties: { ...value.properties, store: { type: 'boolean' } },
        // The SDK computes it.
        required: value.required.filter(one => one !== 'output_text'),
      }
    if (value?.properties?.type?.const === CALL_DONE)
      return { ...value, properties: { ...value.properties, name: { type: 'string' } } }
    return value
  })

/** @returns why a value is not of the type; null: it is */
export function wireFault(name: WireTypeName, value: unknown): string | null {
  const validator = validatorOf(name)
  if (validator(value)) return null
  const errors = (validator.errors ?? []).map(one => `${one.instancePath} ${one.message} ${JSON.stringify(one.params)}`)
  return `${name}: ${errors.slice(0, 12).join('; ')}: ${JSON.stringify(value)}`
}
