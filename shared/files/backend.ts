import type { StoredFile } from '#shared/db/files.ts'

/** Where bytes are kept. One of two; the rows of `files` are in Postgres whichever it is. */
export type Backend = {
  open(file: StoredFile): Sink
  /** @throws FileLost if they are not all there, FilesUnavailable if the store cannot be asked now */
  read(file: StoredFile): AsyncIterable<Uint8Array>
  /**
   * Removes a slice of a condemned file's bytes, whoever wrote them and however far that went.
   * @returns true: there is more
   */
  drop(file: StoredFile): Promise<boolean>
}

export type Sink = {
  /** Resolves when the next piece may come. @throws FileLost if the file was given up meanwhile */
  write(piece: Uint8Array): Promise<void>
  /** All bytes are kept. */
  end(): Promise<void>
  /** Lets go of what is under way; `drop` removes what has been written. */
  abort(): Promise<void>
}

/** The file is gone while it is read or written: deleted, or given up as its writer seemed to have died. */
export class FileLost extends Error {}

/** The store of the bytes cannot be asked, as opposed to: said no. The same may succeed later. */
export class FilesUnavailable extends Error {}
