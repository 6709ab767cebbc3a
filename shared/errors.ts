/** Every error that a client can meet: HTTP status, whether the same request may succeed later, and what to do. */
export const ERRORS = {
  invalid_json: { status: 400, retryable: false, title: 'The body is not valid JSON', advice: 'Send a JSON object.' },
  invalid_header: {
    status: 400,
    retryable: false,
    title: 'A header cannot be used',
    advice: 'Correct the header named in context.',
  },
  invalid_upload: {
    status: 400,
    retryable: false,
    title: 'The upload cannot be read to its end',
    advice: 'Send multipart/form-data, whole, with one file.',
  },
  unsupported_media_type: {
    status: 415,
    retryable: false,
    title: 'Unsupported content type',
    advice: 'Send content-type: application/json, or multipart/form-data where a file is uploaded.',
  },
  unauthenticated: {
    status: 401,
    retryable: false,
    title: 'No valid API key',
    advice: 'Send Authorization: Bearer <key> or X-API-Key.',
  },
  forbidden: {
    status: 403,
    retryable: false,
    title: 'The key lacks a scope',
    advice: 'Use a key with the scope named in context.',
  },
  not_found: { status: 404, retryable: false, title: 'No such route', advice: 'See /docs for the routes.' },
  unknown_kind: {
    status: 404,
    retryable: false,
    title: 'No such job kind',
    advice: 'Use one of the kinds named in context.',
  },
  task_not_found: {
    status: 404,
    retryable: false,
    title: 'No such task',
    advice: 'Check the id, and that the task belongs to this key.',
  },
  policy_not_found: {
    status: 404,
    retryable: false,
    title: 'No such policy',
    advice: 'Check the name; GET /api/v1/policies lists them.',
  },
  collection_not_found: {
    status: 404,
    retryable: false,
    title: 'No such collection',
    advice: 'Check the name, and that the collection belongs to this key; GET /api/v1/collections lists them.',
  },
  document_not_found: {
    status: 404,
    retryable: false,
    title: 'No such document',
    advice: 'Check the id; GET /api/v1/collections/{name}/documents lists them.',
  },
  collection_not_empty: {
    status: 409,
    retryable: false,
    title: 'The language of a collection with documents cannot be changed',
    advice: 'Delete the collection first, or take another name.',
  },
  collection_full: {
    status: 409,
    retryable: false,
    title: 'The collection has no room for that',
    advice: 'Delete documents, or begin another collection.',
  },
  experiment_not_found: {
    status: 404,
    retryable: false,
    title: 'No such experiment',
    advice: 'Check the name; GET /api/v1/experiments lists them.',
  },
  experiment_conflict: {
    status: 409,
    retryable: false,
    title: 'Another experiment is in the way',
    advice: 'Delete the one named in context first, or take another name.',
  },
  not_exposed: {
    status: 422,
    retryable: false,
    title: 'It took no part in the experiment',
    advice: 'Name a task or a user that got a variant: one that was submitted with options.user_id.',
  },
  feedback_not_found: {
    status: 404,
    retryable: false,
    title: 'Nobody has rated the task',
    advice: 'Rate it with POST on the same path.',
  },
  review_not_found: {
    status: 404,
    retryable: false,
    title: 'Nothing to review there',
    advice: 'Check the id; GET /api/v1/reviews lists what waits for a person.',
  },
  review_not_open: {
    status: 409,
    retryable: false,
    title: 'The task does not wait for a person any more',
    advice: 'It is being judged again, or has a verdict now: read it.',
  },
  no_verdict: {
    status: 503,
    retryable: true,
    title: 'Nobody could judge it',
    advice: 'Do not take it for safe: hold it back, and ask again later.',
  },
  file_not_found: {
    status: 404,
    retryable: false,
    title: 'No such file',
    advice: 'Check the id, that the file belongs to this key, and that it has not expired.',
  },
  batch_not_found: {
    status: 404,
    retryable: false,
    title: 'No such batch',
    advice: 'Check the id, and that the batch belongs to this key.',
  },
  batch_finished: {
    status: 409,
    retryable: false,
    title: 'The lines of the batch have all ended',
    advice: 'Read it; nothing can be stopped any more.',
  },
  nothing_to_retry: {
    status: 409,
    retryable: false,
    title: 'The batch has no line that could be run again',
    advice: 'Wait until it has ended; lines that were refused when they were read stay so.',
  },
  key_not_found: {
    status: 404,
    retryable: false,
    title: 'No such key',
    advice: 'List the keys with GET /api/v1/keys.',
  },
  provider_not_found: {
    status: 404,
    retryable: false,
    title: 'No such provider',
    advice: 'List the providers with GET /api/v1/providers.',
  },
  budget_not_found: {
    status: 404,
    retryable: false,
    title: 'No such budget',
    advice: 'List the budgets with GET /api/v1/budgets.',
  },
  delivery_not_found: {
    status: 404,
    retryable: false,
    title: 'No such webhook delivery',
    advice: 'List them with GET /api/v1/webhooks/deliveries.',
  },
  already_finished: {
    status: 409,
    retryable: false,
    title: 'The task has already ended',
    advice: 'Read it; nothing can be changed any more.',
  },
  idempotency_in_flight: {
    status: 409,
    retryable: true,
    title: 'A request with this Idempotency-Key is being accepted right now',
    advice: 'Send the same request again in a moment.',
  },
  idempotency_mismatch: {
    status: 422,
    retryable: false,
    title: 'This Idempotency-Key was used with another request',
    advice: 'Use a new key for a new request.',
  },
  body_too_large: {
    status: 413,
    retryable: false,
    title: 'The body is too large',
    advice: 'Send less than the limit named in context.',
  },
  field_too_large: {
    status: 413,
    retryable: false,
    title: 'A field is too large',
    advice: 'Shorten the field named in context.',
  },
  invalid_request: {
    status: 422,
    retryable: false,
    title: 'A field is missing or invalid',
    advice: 'Correct the field named in context.',
  },
  invalid_text: {
    status: 422,
    retryable: false,
    title: 'Text holds U+0000 or a lone surrogate',
    advice: 'Remove the character from the field named in context.',
  },
  rate_limited: {
    status: 429,
    retryable: true,
    title: 'The key is over its request limit',
    advice: 'Wait as long as Retry-After says.',
  },
  internal: {
    status: 500,
    retryable: true,
    title: 'Something went wrong here',
    advice: 'Report the request id if it persists.',
  },
  unavailable: {
    status: 503,
    retryable: true,
    title: 'The database cannot be reached',
    advice: 'Wait as long as Retry-After says.',
  },
  files_unavailable: {
    status: 503,
    retryable: true,
    title: 'The store of the files cannot be reached',
    advice: 'Wait as long as Retry-After says.',
  },
  gate_unavailable: {
    status: 503,
    retryable: true,
    title: 'Redis cannot be reached, which knows how the providers do',
    advice: 'Wait as long as Retry-After says.',
  },
  server_busy: {
    status: 503,
    retryable: true,
    title: 'Too many requests of this sort are being answered',
    advice: 'Wait as long as Retry-After says; ask for less at once.',
  },
  request_over_budget: {
    status: 422,
    retryable: false,
    title: 'The task may cost more than one request is allowed to',
    advice: 'Shorten the input, lower options.max_tokens, or name a cheaper model.',
  },
  model_unsuitable: {
    status: 422,
    retryable: false,
    title: 'The model does something else',
    advice:
      'Name one that fits: `operation` in GET /api/v1/models; <PROVIDER>_EMBED_MODEL makes another known for vectors.',
  },
  // Below: why a task did not succeed. They appear in a task's `error`, and as a response only where an answer is waited for, as by `/v1/embeddings`.
  deadline_exceeded: {
    status: 504,
    retryable: true,
    title: 'The deadline passed first',
    advice: 'Submit again, with a longer deadline_seconds.',
  },
  worker_lost: {
    status: 500,
    retryable: true,
    title: 'Its workers died, five times',
    advice: 'Look at the workers’ logs before submitting it again.',
  },
  no_provider: {
    status: 503,
    retryable: true,
    title: 'No provider is configured that could answer',
    advice: 'Configure one, or allow options.fallback.',
  },
  model_price_unknown: {
    status: 422,
    retryable: false,
    title: 'Nobody knows what the model costs',
    advice: 'Give its price in the setting PRICES, or name another model.',
  },
  budget_exceeded: {
    status: 402,
    retryable: true,
    title: 'A budget does not let it pass',
    advice: 'Wait for its next window, or raise it; options.on_budget says what a task does then.',
  },
  provider_failed: {
    status: 502,
    retryable: true,
    title: 'No provider gave an answer',
    advice: 'See attempts for what each one said.',
  },
  provider_rejected: {
    status: 422,
    retryable: false,
    title: 'The provider refused the request',
    advice: 'Correct what the message names.',
  },
  invalid_output: {
    status: 502,
    retryable: true,
    title: 'The model’s answer failed its check',
    advice: 'See attempts; relax the schema or ask a stronger model.',
  },
  query_schema_mismatch: {
    status: 422,
    retryable: false,
    title: 'The schema lists columns that are not there',
    advice:
      'List only tables and columns that the database of QUERY_DATABASE_URL has; the attempt names those that it has not.',
  },
  query_unavailable: {
    status: 503,
    retryable: true,
    title: 'The query could not be run',
    advice: 'Submit again when the database of QUERY_DATABASE_URL can be reached; the attempt says what was asked.',
  },
  cancelled: {
    status: 409,
    retryable: false,
    title: 'The task was cancelled',
    advice: 'Submit it again if it is still wanted.',
  },
} as const satisfies Record<string, { status: number; retryable: boolean; title: string; advice: string }>

export type ErrorCode = keyof typeof ERRORS

/** Why a task or an attempt did not succeed, as it is stored and shown. */
export type TaskError = { code: string; message: string; context?: Record<string, unknown> }

/** An error for the client; `message` and `context` are shown to it. */
export class SluiceError extends Error {
  readonly code: ErrorCode
  readonly context: Record<string, unknown>
  /** Seconds for the Retry-After header. */
  readonly retryAfter: number | null

  constructor(
    code: ErrorCode,
    message?: string,
    more: { context?: Record<string, unknown>; retryAfter?: number } = {},
  ) {
    super(message ?? ERRORS[code].title)
    this.code = code
    this.context = more.context ?? {}
    this.retryAfter = more.retryAfter ?? null
  }
}
