export declare const PROMETHEUS_DIR: string
export declare function findPrometheus(path?: string): string | null
