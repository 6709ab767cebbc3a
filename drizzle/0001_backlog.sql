DROP INDEX "tasks_queued";--> statement-breakpoint
DROP INDEX "tasks_by_key";--> statement-breakpoint
ALTER TABLE "api_keys" ADD COLUMN "weight" smallint DEFAULT 1 NOT NULL;--> statement-breakpoint
CREATE INDEX "tasks_backlog" ON "tasks" USING btree ("api_key_id","priority","run_at") WHERE status = 'queued' AND dispatched_at IS NULL;--> statement-breakpoint
CREATE INDEX "tasks_dispatched" ON "tasks" USING btree ("api_key_id","priority","dispatched_at") WHERE status = 'queued' AND dispatched_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX "tasks_by_key" ON "tasks" USING btree ("api_key_id","status","id");