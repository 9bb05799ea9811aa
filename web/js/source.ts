// Where a model comes from: an address, files, handles of files or folders, or bytes; all of them as a folder of files.

import { LampyrisError, asError } from "./errors.js";
import { type RangedFile, ofBlob, ofBytes } from "./ranged.js";
import { type Fetching, ranged, small } from "./remote.js";

/** One file that the page has in memory, by name. */
export interface NamedBytes {
  name: string;
  bytes: Uint8Array | ArrayBuffer;
}

/**
 * A model: the address of a folder or of a `.safetensors` or `.gguf` file, a `File` or several, a handle of a file or a folder, or
 * bytes. Of an address ending in a file name, the other files of the model are looked for beside it.
 */
export type Source =
  | string
  | URL
  | File
  | Blob
  | ReadonlyArray<File | NamedBytes>
  | FileSystemFileHandle
  | FileSystemDirectoryHandle
  | Uint8Array
  | ArrayBuffer;

/** The files of a model. */
export interface Folder {
  /** The file with the weights. */
  weights(): Promise<RangedFile>;
  /** Another file, whole, if it is there. */
  small(name: string): Promise<Uint8Array | undefined>;
}

const isWeights = (name: string): boolean => /\.(safetensors|gguf)$/i.test(name);

const none = (where: string): LampyrisError =>
  new LampyrisError("bad-file", `${where} has no weights; a model is a .safetensors or .gguf file, or a folder with one`);

/** The files behind a source. */
export function folder(source: Source, how: Fetching): Folder {
  if (typeof source === "string" || source instanceof URL) return atAddress(source, how);
  if (source instanceof ArrayBuffer) return ofFiles([ofBytes(new Uint8Array(source), "the given bytes")]);
  if (source instanceof Uint8Array) return ofFiles([ofBytes(source, "the given bytes")]);
  if (source instanceof Blob) return ofFiles([ofAny(source)]);
  if (Array.isArray(source)) return ofFiles(source.map(ofAny));
  if (typeof source === "object" && source !== null && "kind" in source) {
    return source.kind === "file" ? ofHandle(source as FileSystemFileHandle) : ofDirectory(source as FileSystemDirectoryHandle);
  }
  throw new LampyrisError("bad-input", "a source is an address, a File, a file or folder handle, or bytes");
}

function ofAny(file: Blob | NamedBytes): RangedFile {
  if (file instanceof Blob) return ofBlob(file, file instanceof File ? file.name : "the given blob");
  const { name, bytes } = file;
  return ofBytes(bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes), name);
}

function ofFiles(files: RangedFile[]): Folder {
  return {
    async weights() {
      const found = files.length === 1 ? files[0] : files.find((file) => isWeights(file.name));
      if (found === undefined) throw none("the list of files");
      return found;
    },
    async small(name) {
      const file = files.find((file) => file.name === name);
      return file?.read(0, file.size);
    },
  };
}

const ofHandle = (handle: FileSystemFileHandle): Folder => ({
  weights: async () => ofAny(await handle.getFile()),
  small: async () => undefined,
});

function ofDirectory(directory: FileSystemDirectoryHandle): Folder {
  const open = async (name: string): Promise<File | undefined> => {
    try {
      return await (await directory.getFileHandle(name)).getFile();
    } catch (thrown) {
      if (thrown instanceof DOMException && ["NotFoundError", "TypeMismatchError"].includes(thrown.name)) return undefined;
      throw asError(thrown, "bad-file");
    }
  };
  return {
    async weights() {
      for await (const name of (directory as unknown as { keys(): AsyncIterable<string> }).keys()) {
        const file = isWeights(name) ? await open(name) : undefined;
        if (file !== undefined) return ofAny(file);
      }
      throw none(`the folder ${directory.name}`);
    },
    async small(name) {
      const file = await open(name);
      return file === undefined ? undefined : new Uint8Array(await file.arrayBuffer());
    },
  };
}

function atAddress(source: string | URL, how: Fetching): Folder {
  let address: URL;
  try {
    address = new URL(source, globalThis.location?.href);
  } catch (thrown) {
    throw new LampyrisError("bad-input", `'${source}' is no address`, { cause: thrown });
  }
  const isFile = isWeights(address.pathname);
  const home = new URL(address);
  if (isFile) home.pathname = home.pathname.slice(0, home.pathname.lastIndexOf("/") + 1);
  else if (!home.pathname.endsWith("/")) home.pathname += "/";
  const at = (name: string): URL => {
    const file = new URL(name, home);
    file.search = address.search;
    return file;
  };
  return {
    async weights() {
      const file = await ranged(isFile ? address : at("model.safetensors"), how);
      if (file === undefined) throw none(address.href);
      return file;
    },
    small: (name) => small(at(name), how),
  };
}
