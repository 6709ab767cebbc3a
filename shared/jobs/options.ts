import { type Static, Type } from 'typebox'
import { PROVIDER_NAMES } from '#shared/models/providers.ts'
import { PRIORITIES } from '#shared/queue/names.ts'
import { FALLBACKS, type JobKind } from './define.ts'

/** What a client may ask of any kind. */
export const taskOptions = Type.Object(
  {
    provider: Type.Optional(Type.Enum(PROVIDER_NAMES, { description: 'Ask only this provider.' })),
    model: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 200,
        description: 'Ask this model; `<provider>/<model>` names both. `auto`: a cheap or a strong one, by the prompt.',
      }),
    ),
    max_tokens: Type.Optional(Type.Integer({ minimum: 1, maximum: 200_000, description: 'Most tokens to write.' })),
    temperature: Type.Optional(Type.Number({ minimum: 0, maximum: 2 })),
    priority: Type.Enum(PRIORITIES, { default: 'normal', description: 'Order within the queue.' }),
    deadline_seconds: Type.Number({
      minimum: 1,
      maximum: 86_400,
      default: 600,
      multipleOf: 1,
      description: 'After this the task expires, whatever it is doing.',
    }),
    stream: Type.Boolean({ default: false, description: 'Keep the text as the model writes it, for `events`.' }),
    cache: Type.Enum(['use', 'refresh', 'off'], {
      default: 'use',
      description:
        '`use`: a fresh answer to the same request will do, and identical tasks share one call. `refresh`: ask afresh, and remember the answer. `off`: neither. Answers are remembered per API key.',
    }),
    on_budget: Type.Enum(['fallback', 'wait', 'fail'], {
      default: 'fallback',
      description: 'When no budget lets it pass: make do without a model, wait for the next window, or fail.',
    }),
    fallback: Type.Optional(
      Type.Enum(FALLBACKS, {
        description:
          'What may answer when no model does. `cache`: an answer that is no longer fresh, then one that the operator wrote down; `rules`: after these the kind’s rules. The kind has its own default.',
      }),
    ),
    prompt_version: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 50,
        description: 'Ask with this version of the kind’s prompt; it has its own default.',
      }),
    ),
    output_filter: Type.Optional(
      Type.Enum(['on', 'off'], {
        description:
          'Takes card numbers, social security numbers, IBANs and secrets out of the result; the kind has its own default. With it the text is not streamed.',
      }),
    ),
    webhook_url: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 2000,
        description: 'Where to POST a signed event to when the task has ended, such as `https://my.app/hooks`.',
      }),
    ),
    user_id: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 200,
        description:
          'Your id of the user whom the task is for: with it, it takes part in the experiment on its kind, if there is one. Kept as a hash only. The header `X-User-Id` says the same.',
      }),
    ),
  },
  // What has a default need not be said.
  { additionalProperties: false, default: {}, required: [] },
)

export type TaskOptions = Static<typeof taskOptions>

/** The options as a task keeps them: without the user, and with what no client can say: who is to answer first. */
export type KeptOptions = Omit<TaskOptions, 'user_id'> & { engine?: 'rules' }

/** Whether secrets and personal numbers are taken out of a result. */
export const filtersOutput = (
  job: Pick<JobKind, 'outputFilter'>,
  options: Pick<TaskOptions, 'output_filter'>,
): boolean => (options.output_filter === undefined ? job.outputFilter : options.output_filter === 'on')

/** Options that mean nothing where no text is written. */
const OF_TEXT: ReadonlySet<string> = new Set<keyof TaskOptions>([
  'max_tokens',
  'temperature',
  'stream',
  'output_filter',
])

/** The options with what the kind says of them: which have a meaning, its own deadline, the versions of its prompt. */
export const optionsFor = (
  job: Pick<JobKind, 'operation' | 'deadlineSeconds' | 'priority' | 'prompts' | 'promptVersion'>,
): typeof taskOptions =>
  Type.Object(
    {
      ...(job.operation === 'chat'
        ? taskOptions.properties
        : Object.fromEntries(Object.entries(taskOptions.properties).filter(([name]) => !OF_TEXT.has(name)))),
      priority: { ...taskOptions.properties.priority, default: job.priority },
      deadline_seconds: { ...taskOptions.properties.deadline_seconds, default: job.deadlineSeconds },
      prompt_version: Type.Optional(
        Type.Enum(Object.keys(job.prompts), {
          description: `Ask with this version of the kind’s prompt instead of ${job.promptVersion}.`,
        }),
      ),
    },
    { additionalProperties: false, default: {}, required: [] },
  ) as unknown as typeof taskOptions
