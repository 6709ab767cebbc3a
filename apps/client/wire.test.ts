import type { Static } from 'typebox'
import { expectTypeOf, test } from 'vitest'
import type { TaskOptions as ServerOptions } from '#shared/jobs/options.ts'
import type { acceptedSchema, taskSchema } from '../api/task-json.ts'
import type { AcceptedTask, Task, TaskOptions } from './types.ts'

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
