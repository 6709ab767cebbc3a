CREATE TABLE "conversions" (
	"experiment" text NOT NULL,
	"user_key" "bytea" NOT NULL,
	"variant" text NOT NULL,
	"task_id" uuid,
	"value" numeric,
	"at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "conversions_experiment_user_key_pk" PRIMARY KEY("experiment","user_key")
);
--> statement-breakpoint
CREATE TABLE "experiments" (
	"name" text PRIMARY KEY NOT NULL,
	"kind" text NOT NULL,
	"variants" json NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "experiments_kind_unique" UNIQUE("kind")
);
--> statement-breakpoint
CREATE TABLE "feedback" (
	"task_id" uuid PRIMARY KEY NOT NULL,
	"score" smallint NOT NULL,
	"note" text,
	"given_by" uuid NOT NULL,
	"at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "feedback_score" CHECK (score BETWEEN 1 AND 5)
);
--> statement-breakpoint
ALTER TABLE "tasks" ADD COLUMN "experiment" text;--> statement-breakpoint
ALTER TABLE "tasks" ADD COLUMN "variant" text;--> statement-breakpoint
ALTER TABLE "tasks" ADD COLUMN "user_hash" "bytea";--> statement-breakpoint
CREATE INDEX "tasks_exposed" ON "tasks" USING btree ("experiment","user_hash","id") WHERE experiment IS NOT NULL;