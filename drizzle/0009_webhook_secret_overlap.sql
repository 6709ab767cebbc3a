CREATE TABLE "retired_webhook_secrets" (
	"api_key_id" uuid NOT NULL,
	"secret" "bytea" NOT NULL,
	"retired_at" timestamp with time zone DEFAULT now() NOT NULL,
	"signs_until" timestamp with time zone NOT NULL,
	CONSTRAINT "retired_webhook_secrets_api_key_id_secret_pk" PRIMARY KEY("api_key_id","secret")
);
