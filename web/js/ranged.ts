// Files that are read by range, and those among them that are blobs.

import { breath } from "./breath.js";
import { LampyrisError } from "./errors.js";

/** Bytes that a page's thread copies or sums up at once. */
export const PIECE = 256 << 10;

/** A file, wherever its bytes are. */
export interface RangedFile {
  readonly name: string;
  readonly size: number;
  /** The bytes from `start` to `end`, in a task of their own: whoever reads on holds the page's thread no longer for it. */
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
  async read(start, end) {
    await breath();
    return bytes.subarray(start, end);
  },
});
