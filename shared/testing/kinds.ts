import type { TSchema } from 'typebox'
import { canonicalJson } from '#shared/canonical.ts'
import type { ChatKind, Lookup, Prompt } from '#shared/jobs/define.ts'
import { wordsOf } from '#shared/jobs/prompt.ts'
import { compileSchema, violation } from '#shared/json-schema.ts'

/** What a prompt says in its own words, and what it holds of others between tags, by the name of the tag. */
export function fencesOf(prompt: Prompt): { outside: string; inside: Record<string, string> } {
  const inside: Record<string, string> = {}
  const outside = wordsOf(prompt).replace(
    /<([a-z]+)-([0-9a-f]{12})>\n([\s\S]*?)\n<\/\1-\2>/g,
    (_, name: string, __, text: string) => {
      inside[name] = text
      return `[${name}]`
    },
  )
  return { outside, inside }
}

/** What a schema of a kind has against a value, or null. */
export const wrongBy = (schema: TSchema, value: unknown): string | null =>
  violation(compileSchema(schema as Record<string, unknown>), value)

/** A lookup that knows nothing but what the test says. */
export const lookWith = (known: Partial<Lookup> = {}): Lookup => ({
  policy: async () => null,
  passages: async name => ({ wrong: `there is no collection "${name}"` }),
  runsQueries: false,
  ...known,
})

/** What a model has to write so that the example of a kind comes to its `exampleResult`. @throws if the kind does not show it */
export async function answerFor(job: ChatKind): Promise<string> {
  const { exampleAnswer, exampleResult } = job
  const wanted = canonicalJson(exampleResult)
  for (const text of exampleAnswer === null
    ? [job.text(exampleResult), JSON.stringify(exampleResult)]
    : [exampleAnswer]) {
    const checked = await job.check(text, job.example.input, '')
    if (checked.ok && canonicalJson(checked.result) === wanted) return text
  }
  throw new Error(`${job.kind}: its check makes exampleResult neither of its text nor of its JSON; say exampleAnswer`)
}
