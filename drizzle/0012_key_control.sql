CREATE TABLE "retired_key_secrets" (
	"secret_hash" "bytea" PRIMARY KEY NOT NULL,
	"api_key_id" uuid NOT NULL,
	"hint" text NOT NULL,
	"retired_at" timestamp with time zone DEFAULT now() NOT NULL,
	"valid_until" timestamp with time zone NOT NULL
);
--> statement-breakpoint
ALTER TABLE "api_keys" ADD COLUMN "allowed_providers" text[];--> statement-breakpoint
ALTER TABLE "api_keys" ADD COLUMN "allowed_models" text[];--> statement-breakpoint
ALTER TABLE "api_keys" ADD COLUMN "default_options" json;--> statement-breakpoint
ALTER TABLE "api_keys" ADD COLUMN "expires_at" timestamp with time zone;--> statement-breakpoint
CREATE INDEX "retired_key_secrets_by_key" ON "retired_key_secrets" USING btree ("api_key_id");