export declare const PGBOUNCER_DIR: string
export declare function findPgBouncer(path?: string): { command: string; libraries: string } | null
