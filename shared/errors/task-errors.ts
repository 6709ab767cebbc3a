import type { ErrorRow } from './row.ts'

/** Errors of tasks. They appear in `error` of a task, and as a response where the client waits for the answer, such as `/v1/embeddings`. */
export const TASK_ERRORS = {
  deadline_exceeded: {
    status: 504,
    retryable: true,
    title: 'The deadline passed before there was a result',
    advice: 'Submit again with a longer deadline_seconds.',
  },
  worker_lost: {
    status: 500,
    retryable: true,
    title: 'Five workers died while they ran the task',
    advice: 'Check the logs of the workers before submitting the task again.',
  },
  no_provider: {
    status: 503,
    retryable: true,
    title: 'No configured provider can answer',
    advice: 'Configure a provider, or allow options.fallback.',
  },
  model_price_unknown: {
    status: 422,
    retryable: false,
    title: 'The price of the model is unknown',
    advice: 'Set its price in PRICES, or use another model.',
  },
  budget_exceeded: {
    status: 402,
    retryable: true,
    title: 'A budget refused the task',
    advice:
      'Wait for the budget’s next window, or raise its limit; options.on_budget decides whether a task waits or fails.',
  },
  provider_failed: {
    status: 502,
    retryable: true,
    title: 'No provider answered, or none can be called before the deadline',
    advice: 'See attempts for the answer of each provider.',
  },
  provider_rejected: {
    status: 422,
    retryable: false,
    title: 'The provider refused the request',
    advice: 'Correct the request as the message says.',
  },
  unsupported_parameter: {
    status: 422,
    retryable: false,
    title: 'No available model of the request can honour a parameter',
    advice:
      'Use one of the models in the message. On the compatible endpoints, the header X-Sluice-Allow-Lossy permits to leave the parameter out.',
  },
  image_unreachable: {
    status: 422,
    retryable: false,
    title: 'An image cannot be fetched from its URL',
    advice:
      'Send a public https URL of a PNG, JPEG, GIF or WebP file of at most 5 MB, or the image itself as a data URL.',
  },
  invalid_output: {
    status: 502,
    retryable: true,
    title: 'The model’s answer failed its check',
    advice: 'See attempts; relax the schema or use a stronger model.',
  },
  output_truncated: {
    status: 422,
    retryable: false,
    title: 'The answer was cut off at its token limit and cannot be used',
    advice: 'Raise options.max_tokens, request a shorter answer, or use a model with a higher output limit.',
  },
  model_refused: {
    status: 422,
    retryable: false,
    title: 'The model refused to answer',
    advice: 'The message contains its explanation. Change the input, or use another model.',
  },
  context_exceeded: {
    status: 422,
    retryable: false,
    title: 'The prompt does not fit the model’s context window, or the server read only a part of it',
    advice: 'Shorten the input, or use a model with a larger window. For Ollama, see OLLAMA_MAX_CONTEXT.',
  },
  query_schema_mismatch: {
    status: 422,
    retryable: false,
    title: 'The schema lists columns that the database does not have',
    advice: 'List only tables and columns of the database at QUERY_DATABASE_URL. The attempt names the missing ones.',
  },
  query_unavailable: {
    status: 503,
    retryable: true,
    title: 'The query database is unavailable',
    advice: 'Submit again when the database at QUERY_DATABASE_URL is reachable. The attempt contains the SQL.',
  },
  cancelled: {
    status: 409,
    retryable: false,
    title: 'The task was cancelled',
    advice: 'Submit it again if you still need it.',
  },
} as const satisfies Record<string, ErrorRow>
