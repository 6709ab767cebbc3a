import { SluiceError } from '#shared/errors.ts'
import { fieldName } from '#shared/json/schema-fault.ts'

/** An error that a schema cannot express. @param pointer JSON pointer of the field @param rule the predicate: "must be …" */
export const invalidField = (pointer: string, rule: string, more: object = {}) =>
  new SluiceError('invalid_request', `\`${fieldName(pointer)}\` ${rule}.`, { context: { field: pointer, ...more } })

/** The same for a query parameter. */
export const invalidQuery = (name: string, rule: string, more: object = {}) =>
  new SluiceError('invalid_request', `Query parameter \`${name}\` ${rule}.`, {
    context: { field: `/${name}`, in: 'querystring', ...more },
  })
