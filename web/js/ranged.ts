// Files that are read by range, and those among them that are blobs.

import { LampyrisError } from "./errors.js";

/** A file, wherever its bytes are. */
export interface RangedFile {
  readonly name: string;
  readonly size: number;
  /** The bytes from `start` to `end`. */
  read(start: number, end: number): Promise<Uint8Array>;
}

/** A blob as one. */
export const ofBlob = (blob: Blob, name: string): RangedFile => ({
  name,
  size: blob.size,
  async read(start, end) {
    try {
      return new Uint8Array(await blob.slice(start, end).arrayBuffer());
    } catch (thrown) {
      throw new LampyrisError("bad-file", `${name} cannot be read any more; choose it again`, { cause: thrown });
    }
  },
});

/** Bytes as one. */
export const ofBytes = (bytes: Uint8Array, name: string): RangedFile => ({
  name,
  size: bytes.length,
  read: async (start, end) => bytes.subarray(start, end),
});
