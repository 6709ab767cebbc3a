CREATE TABLE "collections" (
	"id" uuid PRIMARY KEY NOT NULL,
	"api_key_id" uuid NOT NULL,
	"name" text NOT NULL,
	"language" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "collections_name" UNIQUE("api_key_id","name")
);
--> statement-breakpoint
CREATE TABLE "documents" (
	"collection_id" uuid NOT NULL,
	"id" text NOT NULL,
	"text" text NOT NULL,
	"metadata" json,
	"passages" integer NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "documents_collection_id_id_pk" PRIMARY KEY("collection_id","id")
);
--> statement-breakpoint
CREATE TABLE "passages" (
	"collection_id" uuid NOT NULL,
	"document_id" text NOT NULL,
	"n" integer NOT NULL,
	"text" text NOT NULL,
	"words" "tsvector" NOT NULL,
	CONSTRAINT "passages_collection_id_document_id_n_pk" PRIMARY KEY("collection_id","document_id","n")
);
--> statement-breakpoint
CREATE INDEX "passages_found" ON "passages" USING gin ((ARRAY[collection_id]),"words");