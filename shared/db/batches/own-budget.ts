/**
 * Common table expressions that create the budget for `max_cost_usd` of the batches `b`. It starts with the cost of earlier runs.
 * @param id the parameter with the id of the budget
 */
export const createOwnBudget = (id: string): string => `budget AS (
      INSERT INTO budgets (id, scope, span, limit_usd) SELECT ${id}::uuid, 'batch:' || b.id, 'total', b.max_cost_usd
      FROM b WHERE b.max_cost_usd IS NOT NULL ON CONFLICT (scope, span) DO NOTHING RETURNING id, limit_usd
    ), budget_window AS (
      INSERT INTO budget_windows (budget_id, starts_at, limit_usd, spent_usd)
      SELECT budget.id, 'epoch', budget.limit_usd, b.cost_usd FROM budget CROSS JOIN b
    )`

/** Common table expressions that delete the budget of the batches `b`. */
export const DELETE_OWN_BUDGET = `budget AS (
      DELETE FROM budgets g USING b WHERE g.scope = 'batch:' || b.id RETURNING g.id
    ), budget_window AS (
      DELETE FROM budget_windows w USING budget WHERE w.budget_id = budget.id
    )`
