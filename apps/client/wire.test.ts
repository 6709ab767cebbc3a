import type { Static } from 'typebox'
import { expectTypeOf, test } from 'vitest'
import type { batchSchema, openAiBatchSchema } from '#apps/api/batches/batch-json.ts'
import type { newBatchSchema } from '#apps/api/openai/batches.ts'
import type { fileSchema } from '#apps/api/openai/files.ts'
import type { acceptedSchema, taskSchema } from '#apps/api/tasks/task-json.ts'
import type { TaskOptions as ServerOptions } from '#shared/jobs/options.ts'
import type { AcceptedTask, Batch, BatchRequest, FileObject, OpenAIBatch, Task, TaskOptions } from './types.ts'

/** The type check is the test: responses of the server match the client's types, in both directions. */

test('the task matches the schema of the server', () => {
  expectTypeOf<Static<typeof taskSchema>>().toExtend<Task>()
  expectTypeOf<Task>().toExtend<Static<typeof taskSchema>>()
})

test('the accepted task matches the schema of the server', () => {
  expectTypeOf<AcceptedTask>().toEqualTypeOf<Static<typeof acceptedSchema>>()
})

test('the options are those of the server, all optional', () => {
  expectTypeOf<keyof TaskOptions>().toEqualTypeOf<keyof ServerOptions>()
  expectTypeOf<Required<Omit<ServerOptions, 'provider'>>>().toExtend<Required<Omit<TaskOptions, 'provider'>>>()
  expectTypeOf<Required<Omit<TaskOptions, 'provider'>>>().toExtend<Required<Omit<ServerOptions, 'provider'>>>()
})

test('the file matches the schema of the server', () => {
  expectTypeOf<Static<typeof fileSchema>>().toExtend<FileObject>()
  expectTypeOf<keyof FileObject>().toEqualTypeOf<keyof Static<typeof fileSchema>>()
})

test('both formats of a batch match the schemas of the server', () => {
  expectTypeOf<Static<typeof batchSchema>>().toExtend<Batch>()
  expectTypeOf<Batch>().toExtend<Static<typeof batchSchema>>()
  expectTypeOf<Static<typeof openAiBatchSchema>>().toExtend<OpenAIBatch>()
  expectTypeOf<OpenAIBatch>().toExtend<Static<typeof openAiBatchSchema>>()
})

test('the batch request matches the schema of the server, with a default completion window', () => {
  expectTypeOf<keyof BatchRequest>().toEqualTypeOf<keyof Static<typeof newBatchSchema>>()
  expectTypeOf<Static<typeof newBatchSchema>>().toExtend<BatchRequest>()
  expectTypeOf<Required<BatchRequest>>().toExtend<Static<typeof newBatchSchema>>()
})
