import { type Static, Type } from 'typebox'
import { PROVIDER_NAME } from '#shared/models/providers.ts'
import { PRIORITIES } from '#shared/queue/names.ts'
import { FALLBACKS, type JobKind } from './define.ts'

/** The options that a client may set for a task of any kind. */
export const taskOptions = Type.Object(
  {
    provider: Type.Optional(
      Type.String({ pattern: PROVIDER_NAME, description: 'Use only this provider, or this pool.' }),
    ),
    model: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 200,
        description:
          'Use this model; `<provider>/<model>` names both. `auto`: a cheap or a strong model, depending on the prompt.',
      }),
    ),
    max_tokens: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 200_000,
        description:
          'Maximum number of output tokens, including reasoning. Default: a limit of the kind; for `generate`, the maximum that the model allows and the budgets admit.',
      }),
    ),
    temperature: Type.Optional(Type.Number({ minimum: 0, maximum: 2 })),
    priority: Type.Enum(PRIORITIES, { default: 'normal', description: 'Order within the queue.' }),
    deadline_seconds: Type.Number({
      minimum: 1,
      maximum: 86_400,
      default: 600,
      multipleOf: 1,
      description: 'Time after which the task expires, also while it runs.',
    }),
    stream: Type.Boolean({ default: false, description: 'Send the text in `events` while the model writes it.' }),
    cache: Type.Enum(['use', 'refresh', 'off'], {
      default: 'use',
      description:
        '`use`: return a fresh cached answer, and share the call of an identical task. `refresh`: make a new call and cache its answer. `off`: neither. The cache is separate for each API key.',
    }),
    on_budget: Type.Enum(['fallback', 'wait', 'fail'], {
      default: 'fallback',
      description:
        'If a budget refuses the call: use a fallback (`fallback`), wait for the next window (`wait`), or fail (`fail`).',
    }),
    fallback: Type.Optional(
      Type.Enum(FALLBACKS, {
        description:
          'Answers without a model. `cache`: a stale cached answer, then a precomputed answer. `rules`: after these, the rules of the kind. Each kind has its own default.',
      }),
    ),
    prompt_version: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 50,
        description: 'Version of the prompt. Default: the newest of the kind.',
      }),
    ),
    output_filter: Type.Optional(
      Type.Enum(['on', 'off'], {
        description:
          'Replace card numbers, social security numbers, IBANs and secrets in the result. Filtered text is not streamed. Each kind has its own default.',
      }),
    ),
    webhook_url: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 2000,
        description: 'URL that receives a signed event when the task has ended, such as `https://my.app/hooks`.',
      }),
    ),
    user_id: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 200,
        description:
          'Your id of the user. With it, the task takes part in the experiment on its kind, if there is one. Sluice stores only a hash. The header `X-User-Id` is an alternative.',
      }),
    ),
  },
  // No option is required, because every one has a default.
  { additionalProperties: false, default: {}, required: [] },
)

export type TaskOptions = Static<typeof taskOptions>

/** The options as stored with a task: without the user, and with settings that clients cannot make. */
export type StoredOptions = Omit<TaskOptions, 'user_id'> & {
  /** The rules of the kind answer before a model. Set by experiments. */
  engine?: 'rules'
  /** A refusal is a result, whatever the schema. Set by the compatible surfaces, which have a field for it. */
  refusals?: 'result'
  /**
   * The stream carries every piece of the answer as JSON, not only its text. An attempt that has sent a piece is the last: its client
   * cannot take it back. Set by the compatible surfaces.
   */
  streams?: 'events'
  /** What the request may lose on its way to a provider of another format: everything, or these parameters. Set by the compatible surfaces. */
  allow_lossy?: true | string[]
}

/** Whether secrets and personal numbers in the result are replaced. */
export const filtersOutput = (
  job: Pick<JobKind, 'outputFilter'>,
  options: Pick<TaskOptions, 'output_filter'>,
): boolean => (options.output_filter === undefined ? job.outputFilter : options.output_filter === 'on')

/** Options without a meaning for embeddings. */
const TEXT_OPTIONS: ReadonlySet<string> = new Set<keyof TaskOptions>([
  'max_tokens',
  'temperature',
  'stream',
  'output_filter',
])

/** The options of one kind: with its defaults and prompt versions, without options that have no meaning for it. */
export const optionsFor = (
  job: Pick<JobKind, 'operation' | 'deadlineSeconds' | 'priority' | 'prompts' | 'promptVersion'>,
): typeof taskOptions =>
  Type.Object(
    {
      ...(job.operation === 'chat'
        ? taskOptions.properties
        : Object.fromEntries(Object.entries(taskOptions.properties).filter(([name]) => !TEXT_OPTIONS.has(name)))),
      priority: { ...taskOptions.properties.priority, default: job.priority },
      deadline_seconds: { ...taskOptions.properties.deadline_seconds, default: job.deadlineSeconds },
      prompt_version: Type.Optional(
        Type.Enum(Object.keys(job.prompts), {
          description: `Version of the prompt; ${job.promptVersion} by default.`,
        }),
      ),
    },
    { additionalProperties: false, default: {}, required: [] },
  ) as unknown as typeof taskOptions
