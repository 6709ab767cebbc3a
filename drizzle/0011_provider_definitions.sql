CREATE TABLE "providers" (
	"name" text PRIMARY KEY NOT NULL,
	"definition" json,
	"version" bigserial NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL
);
