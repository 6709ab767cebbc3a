import { runApplication } from '../client-app/run.ts'
import { blog } from './blog.ts'
import { settings } from './settings.ts'

await runApplication(settings, blog, process.env)
