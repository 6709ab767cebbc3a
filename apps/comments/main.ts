import { runApplication } from '../client-app/run.ts'
import { comments } from './comments.ts'
import { settings } from './settings.ts'

await runApplication(settings, comments, process.env)
