CREATE TABLE "api_keys" (
	"id" uuid PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"secret_hash" "bytea" NOT NULL,
	"hint" text NOT NULL,
	"scopes" text[] NOT NULL,
	"requests_per_minute" integer,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"revoked_at" timestamp with time zone,
	CONSTRAINT "api_keys_secret_hash_unique" UNIQUE("secret_hash")
);
--> statement-breakpoint
CREATE TABLE "attempts" (
	"task_id" uuid NOT NULL,
	"n" integer NOT NULL,
	"worker_id" uuid NOT NULL,
	"provider" text NOT NULL,
	"model" text NOT NULL,
	"outcome" text DEFAULT 'started' NOT NULL,
	"error" json,
	"input_tokens" bigint,
	"output_tokens" bigint,
	"cache_read_tokens" bigint,
	"cache_write_tokens" bigint,
	"cost_usd" numeric(24, 12),
	"price_version" text,
	"started_at" timestamp with time zone NOT NULL,
	"finished_at" timestamp with time zone,
	CONSTRAINT "attempts_task_id_n_pk" PRIMARY KEY("task_id","n")
);
--> statement-breakpoint
CREATE TABLE "idempotency_keys" (
	"api_key_id" uuid NOT NULL,
	"key" text NOT NULL,
	"task_id" uuid NOT NULL,
	"request_hash" "bytea" NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	CONSTRAINT "idempotency_keys_api_key_id_key_pk" PRIMARY KEY("api_key_id","key")
);
--> statement-breakpoint
CREATE TABLE "tasks" (
	"id" uuid PRIMARY KEY NOT NULL,
	"kind" text NOT NULL,
	"status" text DEFAULT 'queued' NOT NULL,
	"queue" text NOT NULL,
	"priority" text NOT NULL,
	"api_key_id" uuid NOT NULL,
	"input" json NOT NULL,
	"options" json NOT NULL,
	"metadata" json,
	"epoch" integer DEFAULT 0 NOT NULL,
	"worker_id" uuid,
	"claims" smallint DEFAULT 0 NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"tries" smallint DEFAULT 0 NOT NULL,
	"run_at" timestamp with time zone NOT NULL,
	"dispatched_at" timestamp with time zone,
	"deadline_at" timestamp with time zone NOT NULL,
	"result" json,
	"source" text,
	"quality" text,
	"provider" text,
	"model" text,
	"error" json,
	"created_at" timestamp with time zone NOT NULL,
	"started_at" timestamp with time zone,
	"finished_at" timestamp with time zone,
	CONSTRAINT "tasks_status" CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired'))
);
--> statement-breakpoint
CREATE TABLE "workers" (
	"id" uuid PRIMARY KEY NOT NULL,
	"pid" integer NOT NULL,
	"host" text NOT NULL,
	"queues" text[] NOT NULL,
	"concurrency" integer NOT NULL,
	"active" integer DEFAULT 0 NOT NULL,
	"metrics_port" integer,
	"providers" json DEFAULT '{}'::json NOT NULL,
	"started_at" timestamp with time zone DEFAULT now() NOT NULL,
	"beat_at" timestamp with time zone DEFAULT now() NOT NULL,
	"last_fetch_at" timestamp with time zone
);
--> statement-breakpoint
CREATE INDEX "attempts_open" ON "attempts" USING btree ("worker_id") WHERE outcome = 'started';--> statement-breakpoint
CREATE INDEX "idempotency_keys_expiry" ON "idempotency_keys" USING btree ("expires_at");--> statement-breakpoint
CREATE INDEX "tasks_by_key" ON "tasks" USING btree ("api_key_id","id");--> statement-breakpoint
CREATE INDEX "tasks_queued" ON "tasks" USING btree ("dispatched_at","run_at") WHERE status = 'queued';--> statement-breakpoint
CREATE INDEX "tasks_live" ON "tasks" USING btree ("deadline_at") WHERE status IN ('queued', 'running');--> statement-breakpoint
CREATE INDEX "tasks_running" ON "tasks" USING btree ("worker_id") WHERE status = 'running';