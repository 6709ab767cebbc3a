CREATE TABLE "policies" (
	"name" text PRIMARY KEY NOT NULL,
	"version" integer DEFAULT 1 NOT NULL,
	"rules" json NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "review_decisions" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"task_id" uuid NOT NULL,
	"decision" text NOT NULL,
	"note" text,
	"decided_by" uuid NOT NULL,
	"decided_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "reviews" (
	"task_id" uuid PRIMARY KEY NOT NULL,
	"api_key_id" uuid NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"decision" text,
	CONSTRAINT "reviews_decision" CHECK (decision IN ('allow', 'block'))
);
--> statement-breakpoint
ALTER TABLE "attempts" ADD COLUMN "prompt_version" text;--> statement-breakpoint
ALTER TABLE "tasks" ADD COLUMN "output_filtered" json;--> statement-breakpoint
CREATE INDEX "review_decisions_by_task" ON "review_decisions" USING btree ("task_id","id");--> statement-breakpoint
CREATE INDEX "reviews_pending" ON "reviews" USING btree ("task_id") WHERE decision IS NULL;