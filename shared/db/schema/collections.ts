import { sql } from 'drizzle-orm'
import { index, integer, json, pgTable, primaryKey, text, unique, uuid } from 'drizzle-orm/pg-core'
import { timestamptz, tsvector } from './columns.ts'

/** A key's collections of documents, which `ask` searches. */
export const collections = pgTable(
  'collections',
  {
    id: uuid('id').primaryKey(),
    apiKeyId: uuid('api_key_id').notNull(),
    name: text('name').notNull(),
    /** Name of a built-in text search configuration. Not a `regconfig`: pg_upgrade refuses tables with such columns. */
    language: text('language').notNull(),
    createdAt: timestamptz('created_at').notNull().defaultNow(),
    /** Last write to the collection or its documents. */
    updatedAt: timestamptz('updated_at').notNull().defaultNow(),
  },
  table => [unique('collections_name').on(table.apiKeyId, table.name)],
)

export const documents = pgTable(
  'documents',
  {
    collectionId: uuid('collection_id').notNull(),
    id: text('id').notNull(),
    text: text('text').notNull(),
    metadata: json('metadata'),
    /** Number of passages. */
    passages: integer('passages').notNull(),
    createdAt: timestamptz('created_at').notNull().defaultNow(),
    updatedAt: timestamptz('updated_at').notNull().defaultNow(),
  },
  table => [primaryKey({ columns: [table.collectionId, table.id] })],
)

/** Passages of documents, the unit of search. */
export const passages = pgTable(
  'passages',
  {
    collectionId: uuid('collection_id').notNull(),
    documentId: text('document_id').notNull(),
    /** From 1. */
    n: integer('n').notNull(),
    text: text('text').notNull(),
    /** Lexemes of `text` in the collection's language. */
    words: tsvector('words').notNull(),
  },
  table => [
    primaryKey({ columns: [table.collectionId, table.documentId, table.n] }),
    // GIN indexes an array of uuid without an extension, so that one index serves both conditions.
    index('passages_found').using('gin', sql`(ARRAY[collection_id])`, table.words),
  ],
)
