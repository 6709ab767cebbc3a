import type { Static } from 'typebox'
import { expectTypeOf, test } from 'vitest'
import type { TaskOptions as ServerOptions } from '#shared/jobs/options.ts'
import type { batchSchema, openAiBatchSchema } from '../api/batch-json.ts'
import type { newBatchSchema } from '../api/routes/openai-batches.ts'
import type { fileSchema } from '../api/routes/openai-files.ts'
import type { acceptedSchema, taskSchema } from '../api/task-json.ts'
import type { AcceptedTask, Batch, BatchRequest, FileObject, OpenAIBatch, Task, TaskOptions } from './types.ts'

/** The type check is the test: what the server gives fits the client's types, and what these name is there. */

test('a task is what the server’s schema says', () => {
  expectTypeOf<Static<typeof taskSchema>>().toExtend<Task>()
  expectTypeOf<Task>().toExtend<Static<typeof taskSchema>>()
})

test('so is one that was accepted', () => {
  expectTypeOf<AcceptedTask>().toEqualTypeOf<Static<typeof acceptedSchema>>()
})

test('the options are those of the server, all of which may be left out', () => {
  expectTypeOf<keyof TaskOptions>().toEqualTypeOf<keyof ServerOptions>()
  expectTypeOf<Required<Omit<ServerOptions, 'provider'>>>().toExtend<Required<Omit<TaskOptions, 'provider'>>>()
  expectTypeOf<Required<Omit<TaskOptions, 'provider'>>>().toExtend<Required<Omit<ServerOptions, 'provider'>>>()
})

test('a file is what the server’s schema says', () => {
  expectTypeOf<Static<typeof fileSchema>>().toExtend<FileObject>()
  expectTypeOf<keyof FileObject>().toEqualTypeOf<keyof Static<typeof fileSchema>>()
})

test('so is a batch, with its progress and as OpenAI’s API has it', () => {
  expectTypeOf<Static<typeof batchSchema>>().toExtend<Batch>()
  expectTypeOf<Batch>().toExtend<Static<typeof batchSchema>>()
  expectTypeOf<Static<typeof openAiBatchSchema>>().toExtend<OpenAIBatch>()
  expectTypeOf<OpenAIBatch>().toExtend<Static<typeof openAiBatchSchema>>()
})

test('so is what asks for one, for which the client fills in the window', () => {
  expectTypeOf<keyof BatchRequest>().toEqualTypeOf<keyof Static<typeof newBatchSchema>>()
  expectTypeOf<Static<typeof newBatchSchema>>().toExtend<BatchRequest>()
  expectTypeOf<Required<BatchRequest>>().toExtend<Static<typeof newBatchSchema>>()
})
