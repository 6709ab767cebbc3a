import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'

type Media = { schema?: object; example?: unknown; examples?: Record<string, { value: unknown }> }
type Response = { description: string; content?: Record<string, Media> }
type Parameter = { name: string; in: string; required?: boolean; schema: object }
export type Operation = {
  operationId?: string
  summary?: string
  tags?: string[]
  parameters?: Parameter[]
  requestBody?: { required?: boolean; content: Record<string, Media> }
  responses: Record<string, Response>
  security?: Record<string, string[]>[]
}
export type OpenApi = {
  openapi: string
  info: { title: string; version: string }
  paths: Record<string, Record<string, Operation>>
  components?: { securitySchemes?: Record<string, unknown> }
}

/** Validates answers against an OpenAPI document. */
export function createContract(document: OpenApi) {
  const ajv = new Ajv2020({ strict: false, allErrors: true })
  addFormats.default(ajv)
  const compiled = new WeakMap<object, ValidateFunction>()
  const compile = (schema: object) => {
    const known = compiled.get(schema) ?? ajv.compile(schema)
    compiled.set(schema, known)
    return known
  }
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      name: `${method.toUpperCase()} ${path}`,
      method: method.toUpperCase(),
      path,
      operation,
      // Paths with fewer parameters match first.
      pattern: new RegExp(`^${path.replaceAll(/\{[^}]+\}/g, '[^/]+')}$`),
      parameters: (path.match(/\{/g) ?? []).length,
    })),
  )
  operations.sort((a, b) => a.parameters - b.parameters)

  /** @returns the violations; null: `value` is valid */
  const violation = (schema: object, value: unknown): string | null => {
    const validate = compile(schema)
    return validate(value) ? null : ajv.errorsText(validate.errors)
  }

  return {
    operations,
    find: (method: string, pathname: string) =>
      operations.find(one => one.method === method && one.pattern.test(pathname)),
    violation,
    /** Finds the operation and validates its answer. `name` is null without an operation, `wrong` is null without a violation. */
    check(method: string, pathname: string, answer: { status: number; type: string; body: unknown }) {
      const found = this.find(method, pathname)
      if (!found) return { name: null, wrong: null }
      const { responses } = found.operation
      const response = responses[answer.status] ?? responses[`${Math.floor(answer.status / 100)}XX`]
      const where = `${found.name} ${answer.status} ${answer.type}`
      if (!response) return { name: found.name, wrong: `${where}: this status is not documented` }
      if (!response.content && answer.type === '') return { name: found.name, wrong: null }
      const media = response.content?.[answer.type]
      if (!media) return { name: found.name, wrong: `${where}: this content type is not documented` }
      const wrong = media.schema ? violation(media.schema, answer.body) : null
      return { name: found.name, wrong: wrong && `${where}: ${wrong}` }
    },
  }
}
export type Contract = ReturnType<typeof createContract>
