// Files kept in the browser's private file system in pieces, each with its hash: what was kept is what was fetched, or it is gone.

import { breath } from "./breath.js";
import { LampyrisError, asError } from "./errors.js";
import { PIECE } from "./ranged.js";

/** What is written beside the bytes, once all of them are there. */
interface Manifest {
  address: string;
  /** Bytes; -1 for a file that the server does not have. */
  size: number;
  /** SHA-256 of each piece. */
  hashes: string[];
}

const FOLDER = "lampyris";

const hash = async (bytes: Uint8Array<ArrayBuffer>): Promise<string> =>
  Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)), (byte) => byte.toString(16).padStart(2, "0")).join("");

const nameOf = (address: string): Promise<string> => hash(new TextEncoder().encode(address));

/** The folder; undefined where the browser has none to give, as on a page that is not secure. */
async function root(): Promise<FileSystemDirectoryHandle | undefined> {
  try {
    return await (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER, { create: true });
  } catch {
    return undefined;
  }
}

async function remove(folder: FileSystemDirectoryHandle, name: string): Promise<void> {
  for (const ending of ["json", "bytes"]) await folder.removeEntry(`${name}.${ending}`).catch(() => {});
}

/**
 * A file that is kept whole; undefined where there is none. What is no longer kept when it is read is read by `otherwise`, and must be
 * what was kept.
 */
export async function kept(
  address: string,
  otherwise?: (start: number, end: number, size: number) => Promise<Uint8Array>,
): Promise<{ size: number; read(start: number, end: number): Promise<Uint8Array> } | undefined> {
  const folder = await root();
  if (folder === undefined) return undefined;
  const name = await nameOf(address);
  let manifest: Manifest;
  let file: File;
  try {
    manifest = JSON.parse(await (await (await folder.getFileHandle(`${name}.json`)).getFile()).text()) as Manifest;
    file = await (await folder.getFileHandle(`${name}.bytes`)).getFile();
  } catch {
    return undefined;
  }
  const { size, hashes } = manifest;
  if (manifest.address !== address || file.size !== Math.max(size, 0) || hashes.length !== Math.ceil(file.size / PIECE)) {
    await remove(folder, name);
    return undefined;
  }
  let last: { at: number; bytes: Uint8Array } | undefined;
  const piece = async (at: number): Promise<Uint8Array> => {
    if (last?.at === at) return last.bytes;
    const end = Math.min(at + PIECE, file.size);
    let bytes: Uint8Array<ArrayBuffer>;
    let here = true;
    try {
      bytes = new Uint8Array(await file.slice(at, end).arrayBuffer());
    } catch (thrown) {
      // The browser made room, or the page forgot it.
      if (otherwise === undefined) throw asError(thrown, "bad-file");
      bytes = new Uint8Array(await otherwise(at, end, file.size));
      here = false;
    }
    if ((await hash(bytes)) !== hashes[at / PIECE]) {
      if (!here) throw new LampyrisError("bad-file", `${address} is no longer what was loaded; load it again`);
      await remove(folder, name);
      throw new LampyrisError("bad-file", `what the browser kept of ${address} is damaged and was thrown away; load it again`);
    }
    last = { at, bytes };
    return bytes;
  };
  return {
    size,
    async read(start, until) {
      await breath();
      const end = Math.min(until, file.size);
      if (start >= end) return new Uint8Array();
      const first = start - (start % PIECE);
      if (end <= first + PIECE) return (await piece(first)).subarray(start - first, end - first);
      const bytes = new Uint8Array(end - start);
      for (let at = first; at < end; at += PIECE) {
        const from = Math.max(start, at);
        bytes.set((await piece(at)).subarray(from - at, Math.min(end, at + PIECE) - at), from - start);
      }
      return bytes;
    },
  };
}

/** A file on its way into the folder. Where the disk is full it is given up, and the page goes on without. */
export class Kept {
  #writing: FileSystemWritableFileStream | undefined;
  readonly #hashes: string[] = [];

  constructor(
    readonly folder: FileSystemDirectoryHandle,
    readonly name: string,
    readonly address: string,
    readonly size: number,
    writing: FileSystemWritableFileStream,
  ) {
    this.#writing = writing;
  }

  /** Takes what begins at `start`, where a piece does. */
  async take(start: number, bytes: Uint8Array): Promise<void> {
    try {
      for (let at = start; at < start + bytes.length && this.#writing !== undefined; at += PIECE) {
        const own = bytes.slice(at - start, at - start + PIECE);
        this.#hashes[at / PIECE] = await hash(own);
        await this.#writing?.write({ type: "write", position: at, data: own });
      }
    } catch {
      await this.discard();
    }
  }

  /** Says that all pieces are there. Until then nothing is kept. */
  async finish(): Promise<void> {
    const writing = this.#writing;
    if (writing === undefined) return;
    this.#writing = undefined;
    try {
      await writing.close();
      const manifest: Manifest = { address: this.address, size: this.size, hashes: this.#hashes };
      const beside = await (await this.folder.getFileHandle(`${this.name}.json`, { create: true })).createWritable();
      await beside.write(JSON.stringify(manifest));
      await beside.close();
    } catch {
      await remove(this.folder, this.name);
    }
  }

  /** Takes a whole file. */
  async whole(bytes: Uint8Array): Promise<void> {
    await this.take(0, bytes);
    await this.finish();
  }

  /** Throws away what is there. */
  async discard(): Promise<void> {
    const writing = this.#writing;
    this.#writing = undefined;
    await writing?.abort().catch(() => {});
    await remove(this.folder, this.name);
  }
}

/** Begins to keep a file; undefined where that cannot be. */
export async function keep(address: string, size: number): Promise<Kept | undefined> {
  const folder = await root();
  if (folder === undefined) return undefined;
  const name = await nameOf(address);
  await remove(folder, name);
  try {
    const writing = await (await folder.getFileHandle(`${name}.bytes`, { create: true })).createWritable();
    return new Kept(folder, name, address, size, writing);
  } catch {
    return undefined;
  }
}

/** Throws away all that is kept. */
export async function forget(): Promise<void> {
  try {
    await (await navigator.storage.getDirectory()).removeEntry(FOLDER, { recursive: true });
  } catch {
    // There was none.
  }
}
