CREATE TABLE "batch_chunks" (
	"id" uuid PRIMARY KEY NOT NULL,
	"batch_id" uuid NOT NULL,
	"step" text NOT NULL,
	"first_line" integer DEFAULT 0 NOT NULL,
	"last_line" integer DEFAULT 0 NOT NULL,
	"status" text DEFAULT 'waiting' NOT NULL,
	"epoch" integer DEFAULT 0 NOT NULL,
	"claims" smallint DEFAULT 0 NOT NULL,
	"worker_id" uuid,
	"dispatched_at" timestamp with time zone,
	"succeeded" integer DEFAULT 0 NOT NULL,
	"failed" integer DEFAULT 0 NOT NULL,
	"cancelled" integer DEFAULT 0 NOT NULL,
	"expired" integer DEFAULT 0 NOT NULL,
	"input_tokens" bigint DEFAULT 0 NOT NULL,
	"output_tokens" bigint DEFAULT 0 NOT NULL,
	"cost_usd" numeric(24, 12) DEFAULT '0' NOT NULL,
	"started_at" timestamp with time zone,
	"finished_at" timestamp with time zone
);
--> statement-breakpoint
CREATE TABLE "batches" (
	"id" uuid PRIMARY KEY NOT NULL,
	"api_key_id" uuid NOT NULL,
	"surface" text NOT NULL,
	"endpoint" text,
	"kind" text,
	"status" text DEFAULT 'validating' NOT NULL,
	"input_file_id" uuid NOT NULL,
	"output_file_id" uuid,
	"error_file_id" uuid,
	"mapping" json,
	"options" json DEFAULT '{}'::json NOT NULL,
	"priority" text DEFAULT 'normal' NOT NULL,
	"metadata" json,
	"completion_window" text DEFAULT '24h' NOT NULL,
	"output_expires_seconds" integer,
	"webhook_url" text,
	"max_cost_usd" numeric(24, 12),
	"bound_usd" numeric(24, 12),
	"model" text,
	"errors" json,
	"total" integer DEFAULT 0 NOT NULL,
	"succeeded" integer DEFAULT 0 NOT NULL,
	"failed" integer DEFAULT 0 NOT NULL,
	"cancelled" integer DEFAULT 0 NOT NULL,
	"expired" integer DEFAULT 0 NOT NULL,
	"input_tokens" bigint DEFAULT 0 NOT NULL,
	"output_tokens" bigint DEFAULT 0 NOT NULL,
	"cost_usd" numeric(24, 12) DEFAULT '0' NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"in_progress_at" timestamp with time zone,
	"finalizing_at" timestamp with time zone,
	"completed_at" timestamp with time zone,
	"failed_at" timestamp with time zone,
	"expired_at" timestamp with time zone,
	"cancelling_at" timestamp with time zone,
	"cancelled_at" timestamp with time zone,
	"expires_at" timestamp with time zone NOT NULL,
	CONSTRAINT "batches_status" CHECK (status IN ('validating', 'in_progress', 'finalizing', 'completed', 'failed', 'expired', 'cancelling', 'cancelled'))
);
--> statement-breakpoint
CREATE TABLE "file_chunks" (
	"file_id" uuid NOT NULL,
	"seq" integer NOT NULL,
	"data" "bytea" NOT NULL,
	CONSTRAINT "file_chunks_file_id_seq_pk" PRIMARY KEY("file_id","seq")
);
--> statement-breakpoint
CREATE TABLE "files" (
	"id" uuid PRIMARY KEY NOT NULL,
	"api_key_id" uuid NOT NULL,
	"purpose" text NOT NULL,
	"filename" text NOT NULL,
	"status" text NOT NULL,
	"storage" text NOT NULL,
	"bytes" bigint DEFAULT 0 NOT NULL,
	"sha256" "bytea",
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"touched_at" timestamp with time zone DEFAULT now() NOT NULL,
	"expires_at" timestamp with time zone
);
--> statement-breakpoint
CREATE TABLE "webhook_deliveries" (
	"id" uuid PRIMARY KEY NOT NULL,
	"api_key_id" uuid NOT NULL,
	"type" text NOT NULL,
	"subject_id" uuid NOT NULL,
	"url" text NOT NULL,
	"status" text DEFAULT 'pending' NOT NULL,
	"attempts" smallint DEFAULT 0 NOT NULL,
	"next_at" timestamp with time zone DEFAULT now() NOT NULL,
	"last_status" smallint,
	"last_error" text,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"delivered_at" timestamp with time zone
);
--> statement-breakpoint
ALTER TABLE "api_keys" ADD COLUMN "webhook_secret" "bytea" DEFAULT decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex') NOT NULL;--> statement-breakpoint
ALTER TABLE "tasks" ADD COLUMN "webhook_url" text;--> statement-breakpoint
ALTER TABLE "tasks" ADD COLUMN "batch_id" uuid;--> statement-breakpoint
ALTER TABLE "tasks" ADD COLUMN "line" integer;--> statement-breakpoint
ALTER TABLE "tasks" ADD COLUMN "custom_id" text;--> statement-breakpoint
CREATE UNIQUE INDEX "batch_chunks_lines" ON "batch_chunks" USING btree ("batch_id","step","first_line");--> statement-breakpoint
CREATE INDEX "batch_chunks_waiting" ON "batch_chunks" USING btree ("batch_id","first_line") WHERE status = 'waiting';--> statement-breakpoint
CREATE INDEX "batch_chunks_running" ON "batch_chunks" USING btree ("worker_id") WHERE status = 'running';--> statement-breakpoint
CREATE INDEX "batches_by_key" ON "batches" USING btree ("api_key_id","id");--> statement-breakpoint
CREATE INDEX "batches_live" ON "batches" USING btree ("id") WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling');--> statement-breakpoint
CREATE INDEX "files_by_key" ON "files" USING btree ("api_key_id","id");--> statement-breakpoint
CREATE INDEX "files_unfinished" ON "files" USING btree ("touched_at") WHERE status <> 'processed';--> statement-breakpoint
CREATE INDEX "files_expiry" ON "files" USING btree ("expires_at") WHERE status = 'processed' AND expires_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX "webhook_deliveries_due" ON "webhook_deliveries" USING btree ("next_at") WHERE status = 'pending';--> statement-breakpoint
CREATE INDEX "webhook_deliveries_by_key" ON "webhook_deliveries" USING btree ("api_key_id","id");--> statement-breakpoint
CREATE INDEX "webhook_deliveries_by_subject" ON "webhook_deliveries" USING btree ("subject_id");--> statement-breakpoint
CREATE UNIQUE INDEX "tasks_lines" ON "tasks" USING btree ("batch_id","line") WHERE batch_id IS NOT NULL;