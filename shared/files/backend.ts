import type { StoredFile } from '#shared/db/files.ts'

/** Storage for the bytes of files. The rows of `files` are always in Postgres. */
export type Backend = {
  open(file: StoredFile): Sink
  /** @throws FileLost if bytes are missing, FilesUnavailable if the storage is unavailable */
  read(file: StoredFile): AsyncIterable<Uint8Array>
  /**
   * Deletes a slice of the bytes of a deleted file, whether it was complete or not.
   * @returns true: there are more bytes
   */
  drop(file: StoredFile): Promise<boolean>
}

export type Sink = {
  /** Resolves when the next chunk may be written. @throws FileLost if the file was abandoned meanwhile */
  write(chunk: Uint8Array): Promise<void>
  /** Resolves when all bytes are stored. */
  end(): Promise<void>
  /** Stops writing. `drop` deletes the bytes written so far. */
  abort(): Promise<void>
}

/** The file is gone while it is read or written: it was deleted, or abandoned because its writer seemed dead. */
export class FileLost extends Error {}

/** The storage is unavailable. The same operation may succeed later. */
export class FilesUnavailable extends Error {}
