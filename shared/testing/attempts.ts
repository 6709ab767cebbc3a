type Attempt = { outcome: string; cost_usd: number | null }

/**
 * An answer of the API; of a task without the attempts that were given up before anything was sent: a permit is void after a
 * second, which a busy machine can take to write the attempt down.
 */
export function withCallsAlone<Body>(body: Body): Body {
  const { attempts } = (body ?? {}) as { attempts?: unknown }
  if (!Array.isArray(attempts)) return body
  return { ...body, attempts: (attempts as Attempt[]).filter(one => one.outcome !== 'aborted' || one.cost_usd !== 0) }
}

/** The rows of the ledger without those. */
export const CALLS = `(SELECT * FROM attempts WHERE outcome <> 'aborted' OR cost_usd IS DISTINCT FROM 0) AS calls`
