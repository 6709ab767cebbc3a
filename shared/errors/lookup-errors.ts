import type { ErrorRow } from './row.ts'

/** Errors of requests that name something that does not exist, or that the key may not see. */
export const LOOKUP_ERRORS = {
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
  experiment_not_found: {
    status: 404,
    retryable: false,
    title: 'No such experiment',
    advice: 'Check the name; GET /api/v1/experiments lists them.',
  },
  feedback_not_found: {
    status: 404,
    retryable: false,
    title: 'The task has no feedback',
    advice: 'Rate it with POST on the same path.',
  },
  review_not_found: {
    status: 404,
    retryable: false,
    title: 'No such review',
    advice: 'Check the id; GET /api/v1/reviews lists the tasks that need a human decision.',
  },
  completion_not_found: {
    status: 404,
    retryable: false,
    title: 'No such stored chat completion',
    advice: 'Only completions with `store: true` can be read, by the key that created them, until they are deleted.',
  },
  response_not_found: {
    status: 404,
    retryable: false,
    title: 'No such response',
    advice: 'Only responses with `store: true` can be read, by the key that created them, until they are deleted.',
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
} as const satisfies Record<string, ErrorRow>
