CREATE TABLE "budget_windows" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"budget_id" uuid NOT NULL,
	"starts_at" timestamp with time zone NOT NULL,
	"ends_at" timestamp with time zone,
	"limit_usd" numeric(24, 12) NOT NULL,
	"reserved_usd" numeric(24, 12) DEFAULT '0' NOT NULL,
	"spent_usd" numeric(24, 12) DEFAULT '0' NOT NULL,
	CONSTRAINT "budget_windows_start" UNIQUE("budget_id","starts_at")
);
--> statement-breakpoint
CREATE TABLE "budgets" (
	"id" uuid PRIMARY KEY NOT NULL,
	"scope" text NOT NULL,
	"span" text NOT NULL,
	"limit_usd" numeric(24, 12) NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "budgets_scope" UNIQUE("scope","span")
);
--> statement-breakpoint
CREATE TABLE "cost_rollups" (
	"hour" timestamp with time zone NOT NULL,
	"provider" text NOT NULL,
	"model" text NOT NULL,
	"kind" text NOT NULL,
	"api_key_id" uuid NOT NULL,
	"calls" bigint NOT NULL,
	"input_tokens" bigint NOT NULL,
	"output_tokens" bigint NOT NULL,
	"cache_read_tokens" bigint NOT NULL,
	"cache_write_tokens" bigint NOT NULL,
	"cost_usd" numeric(24, 12) NOT NULL,
	"estimated_usd" numeric(24, 12) NOT NULL,
	CONSTRAINT "cost_rollups_hour_provider_model_kind_api_key_id_pk" PRIMARY KEY("hour","provider","model","kind","api_key_id")
);
--> statement-breakpoint
CREATE TABLE "gates" (
	"provider" text NOT NULL,
	"model" text NOT NULL,
	"opened_at" timestamp with time zone NOT NULL,
	CONSTRAINT "gates_provider_model_pk" PRIMARY KEY("provider","model")
);
--> statement-breakpoint
CREATE TABLE "precomputed" (
	"kind" text NOT NULL,
	"input_hash" "bytea" NOT NULL,
	"input" json,
	"result" json NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "precomputed_kind_input_hash_pk" PRIMARY KEY("kind","input_hash")
);
--> statement-breakpoint
CREATE TABLE "provider_limits" (
	"provider" text NOT NULL,
	"model" text NOT NULL,
	"limits" json NOT NULL,
	"version" bigserial NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "provider_limits_provider_model_pk" PRIMARY KEY("provider","model")
);
--> statement-breakpoint
ALTER TABLE "attempts" ADD COLUMN "kind" text NOT NULL DEFAULT '';--> statement-breakpoint
ALTER TABLE "attempts" ADD COLUMN "api_key_id" uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000';--> statement-breakpoint
ALTER TABLE "attempts" ADD COLUMN "reserved_usd" numeric(24, 12) NOT NULL DEFAULT 0;--> statement-breakpoint
ALTER TABLE "attempts" ADD COLUMN "windows" bigint[] NOT NULL DEFAULT '{}';--> statement-breakpoint
ALTER TABLE "attempts" ADD COLUMN "booked_input_tokens" bigint NOT NULL DEFAULT 0;--> statement-breakpoint
ALTER TABLE "attempts" ADD COLUMN "booked_output_tokens" bigint NOT NULL DEFAULT 0;--> statement-breakpoint
ALTER TABLE "attempts" ADD COLUMN "settlements" smallint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "attempts" ADD COLUMN "estimated" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "tasks" ADD COLUMN "cache_key" "bytea";--> statement-breakpoint
ALTER TABLE "tasks" ADD COLUMN "leader_id" uuid;--> statement-breakpoint
CREATE INDEX "attempts_recent" ON "attempts" USING btree ("started_at");--> statement-breakpoint
CREATE INDEX "tasks_followers" ON "tasks" USING btree ("leader_id") WHERE leader_id IS NOT NULL;--> statement-breakpoint
-- Rows from before: whose they were is known, and nothing had been reserved.
UPDATE "attempts" a SET "kind" = t."kind", "api_key_id" = t."api_key_id", "settlements" = (a."outcome" <> 'started')::int, "estimated" = a."cost_usd" IS NULL AND a."outcome" <> 'started', "cost_usd" = CASE WHEN a."outcome" <> 'started' THEN coalesce(a."cost_usd", 0) END FROM "tasks" t WHERE t."id" = a."task_id";--> statement-breakpoint
ALTER TABLE "attempts" ALTER COLUMN "kind" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "attempts" ALTER COLUMN "api_key_id" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "attempts" ALTER COLUMN "reserved_usd" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "attempts" ALTER COLUMN "windows" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "attempts" ALTER COLUMN "booked_input_tokens" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "attempts" ALTER COLUMN "booked_output_tokens" DROP DEFAULT;