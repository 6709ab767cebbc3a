import type { TSchema } from 'typebox'
import type { ChatKind, InputContext } from '#shared/jobs/define.ts'
import { promptText } from '#shared/jobs/prompt.ts'
import { canonicalJson } from '#shared/json/canonical.ts'
import { compileSchema, violation } from '#shared/json/schema.ts'
import type { ChatRequest } from '#shared/requests/request.ts'

/** Splits a prompt into its instructions (`outside`) and the fenced content (`inside`), by the name of the fence. */
export function fencesOf(prompt: ChatRequest): { outside: string; inside: Record<string, string> } {
  const inside: Record<string, string> = {}
  const outside = promptText(prompt).replace(
    /<([a-z]+)-([0-9a-f]{12,64})>\n([\s\S]*?)\n<\/\1-\2>/g,
    (_, name: string, __, text: string) => {
      inside[name] = text
      return `[${name}]`
    },
  )
  return { outside, inside }
}

/** The first violation of the schema by the value; null: the value is valid. */
export const violationOf = (schema: TSchema, value: unknown): string | null =>
  violation(compileSchema(schema as Record<string, unknown>), value)

/** An input context that has only the given entries: no policy, no collection, no queries. */
export const contextWith = (known: Partial<InputContext> = {}): InputContext => ({
  policy: async () => null,
  passages: async name => ({ wrong: `there is no collection "${name}"` }),
  runsQueries: false,
  ...known,
})

/**
 * The model answer from which the kind produces its `exampleResult`: `exampleAnswer`, or the text or JSON of the result.
 * @throws if none of them produces it
 */
export async function answerFor(job: ChatKind): Promise<string> {
  const { exampleAnswer, exampleResult } = job
  const wanted = canonicalJson(exampleResult)
  for (const text of exampleAnswer === null
    ? [job.text(exampleResult), JSON.stringify(exampleResult)]
    : [exampleAnswer]) {
    const checked = await job.check(text, job.example.input, '')
    if (checked.ok && canonicalJson(checked.result) === wanted) return text
  }
  throw new Error(`${job.kind}: neither the text nor the JSON of exampleResult passes its check: set exampleAnswer`)
}
