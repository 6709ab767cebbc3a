import { bigserial, pgTable, text, unique, uuid } from 'drizzle-orm/pg-core'
import { timestamptz, usd } from './columns.ts'

/** Spending limits by scope and window. */
export const budgets = pgTable(
  'budgets',
  {
    id: uuid('id').primaryKey(),
    /** global | key:<uuid> | kind:<kind> | provider:<name> | batch:<uuid> */
    scope: text('scope').notNull(),
    /** The window: request | hour | day | month | total; UTC. Named `span` because `window` is a reserved word in SQL. */
    span: text('span').notNull(),
    limitUsd: usd('limit_usd').notNull(),
    createdAt: timestamptz('created_at').notNull().defaultNow(),
    updatedAt: timestamptz('updated_at').notNull().defaultNow(),
  },
  table => [unique('budgets_scope').on(table.scope, table.span)],
)

/** One row per budget and window; none for `request`. Claims lock the rows in id order. */
export const budgetWindows = pgTable(
  'budget_windows',
  {
    id: bigserial('id', { mode: 'number' }).primaryKey(),
    budgetId: uuid('budget_id').notNull(),
    startsAt: timestamptz('starts_at').notNull(),
    /** null: the window never ends. */
    endsAt: timestamptz('ends_at'),
    /** A copy of the budget's limit, so that a statement that waited for the row lock reads the current limit. */
    limitUsd: usd('limit_usd').notNull(),
    reservedUsd: usd('reserved_usd').notNull().default('0'),
    spentUsd: usd('spent_usd').notNull().default('0'),
  },
  table => [unique('budget_windows_start').on(table.budgetId, table.startsAt)],
)
