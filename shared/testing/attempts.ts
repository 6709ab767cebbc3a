type Attempt = { outcome: string; cost_usd: number | null }

/**
 * Removes from a task the attempts that were aborted before their request was sent. A permit expires after a second, and a
 * busy machine can take longer to record the attempt. Returns other bodies as they are.
 */
export function withoutUnsentAttempts<Body>(body: Body): Body {
  const { attempts } = (body ?? {}) as { attempts?: unknown }
  if (!Array.isArray(attempts)) return body
  return { ...body, attempts: (attempts as Attempt[]).filter(one => one.outcome !== 'aborted' || one.cost_usd !== 0) }
}

/** The same for SQL: a subquery for the attempts whose request was sent. */
export const CALLS = `(SELECT * FROM attempts WHERE outcome <> 'aborted' OR cost_usd IS DISTINCT FROM 0) AS calls`
