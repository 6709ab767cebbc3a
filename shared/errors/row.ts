/** `status`: of the HTTP response. `retryable`: whether the same request may succeed later. `advice`: the remedy. */
export type ErrorRow = { status: number; retryable: boolean; title: string; advice: string }
