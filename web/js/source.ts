// Where a model comes from: an address, files, handles of files or folders, or bytes; all of them as a folder of files.

import { LampyrisError, asError } from "./errors.js";
import { type RangedFile, ofBlob, ofBytes } from "./ranged.js";
import { kept } from "./kept.js";
import { Fetching, ranged, small } from "./remote.js";

/** How files at an address are fetched. */
export interface Options {
  /** Keep them in the browser, and take those that are kept. */
  cache: boolean;
  /** Gives up when it says so. */
  signal?: AbortSignal;
}

/** One file that the page has in memory, by name. */
export interface NamedBytes {
  name: string;
  bytes: Uint8Array | ArrayBuffer;
}

/**
 * A model: the address of a folder or of a `.safetensors` or `.gguf` file, a `File` or several, a handle of a file or a folder, or
 * bytes. Of an address ending in a file name, the other files of the model are looked for beside it, with the other parts of a GGUF
 * file that is split. Of a folder, its `model.safetensors` is taken, or else the shards of its `model.safetensors.index.json`, or else,
 * where the folder's files can be listed, what it has of weights.
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

/** The weights of a model: one file, the parts of a GGUF file in their order, or shards with the index that names them. */
export interface WeightFiles {
  files: RangedFile[];
  index?: Uint8Array;
}

/** The files of a model. */
export interface Folder {
  /** What the weights are in. */
  weights(): Promise<WeightFiles>;
  /** Another file, whole, if it is there. */
  small(name: string): Promise<Uint8Array | undefined>;
  /** Does what is left to do once a model is loaded. */
  finish?(): Promise<void>;
  /** Throws away what was begun, where loading failed. */
  discard?(): Promise<void>;
}

const WHOLE = "model.safetensors";
const INDEX = `${WHOLE}.index.json`;

const isWeights = (name: string): boolean => /\.(safetensors|gguf)$/i.test(name);

/** The names of all parts of the GGUF file that `name` is one of, in their order. */
function parts(name: string): string[] {
  const [, stem, , count] = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/i.exec(name) ?? [];
  if (stem === undefined || count === undefined) return [name];
  // No set has more parts than its format can number.
  const length = Math.min(Number(count), 0xffff);
  return Array.from({ length }, (_, at) => `${stem}-${String(at + 1).padStart(5, "0")}-of-${count}.gguf`);
}

/** The names of the shards of an index; none for one that is damaged, which the module refuses with its reason. */
function shards(index: Uint8Array): string[] {
  try {
    const { weight_map } = JSON.parse(new TextDecoder().decode(index)) as { weight_map?: unknown };
    const names = Object.values(weight_map ?? {}).filter((name) => typeof name === "string" && !/[/\\:]/.test(name));
    return [...new Set(names as string[])].sort();
  } catch {
    return [];
  }
}

/** How a folder is looked into: a file by name, the same whole, and the names of all files where they are known. */
interface Inside {
  open(name: string): Promise<RangedFile | undefined>;
  small(name: string): Promise<Uint8Array | undefined>;
  names(): AsyncIterable<string> | Iterable<string>;
}

/** Those of some files that are there. What is missing is told by the module, which knows how much of the model that is. */
async function all(names: string[], open: Inside["open"]): Promise<RangedFile[]> {
  const files: RangedFile[] = [];
  for (const name of names) {
    const file = await open(name);
    if (file !== undefined) files.push(file);
  }
  return files;
}

/** The weights among what a folder has; of one that is `sharded`, a whole file is not asked for. */
async function weightsOf(where: string, { open, small, names }: Inside, sharded = false): Promise<WeightFiles> {
  const whole = sharded ? undefined : await open(WHOLE);
  if (whole !== undefined) return { files: [whole] };
  const index = await small(INDEX);
  if (index !== undefined) return { files: await all(shards(index), open), index };
  const found: string[] = [];
  for await (const name of names()) if (isWeights(name)) found.push(name);
  const [first] = found.sort();
  if (first === undefined) throw none(where);
  return { files: await all(parts(first), open) };
}

const none = (where: string): LampyrisError =>
  new LampyrisError("bad-file", `${where} has no weights; a model is a .safetensors or .gguf file, or a folder with one`);

/** The files behind a source. */
export function folder(source: Source, how: Options): Folder {
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

/** The name of a file within the folder that was chosen, or its own. */
const placeOf = ({ name, webkitRelativePath }: File): string => webkitRelativePath.slice(webkitRelativePath.indexOf("/") + 1) || name;

function ofAny(file: Blob | NamedBytes): RangedFile {
  if (file instanceof Blob) return ofBlob(file, file instanceof File ? placeOf(file) : "the given blob");
  const { name, bytes } = file;
  return ofBytes(bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes), name);
}

function ofFiles(files: RangedFile[]): Folder {
  const open = async (name: string): Promise<RangedFile | undefined> => files.find((file) => file.name === name);
  const small = async (name: string): Promise<Uint8Array | undefined> => {
    const file = await open(name);
    return file?.read(0, file.size);
  };
  const names = (): string[] => files.map(({ name }) => name);
  return {
    weights: async () => (files.length === 1 ? { files } : weightsOf("the list of files", { open, small, names })),
    small,
  };
}

const ofHandle = (handle: FileSystemFileHandle): Folder => ({
  weights: async () => ({ files: [ofAny(await handle.getFile())] }),
  small: async () => undefined,
});

function ofDirectory(directory: FileSystemDirectoryHandle): Folder {
  const open = async (name: string): Promise<File | undefined> => {
    try {
      const folders = name.split("/");
      const file = folders.pop() ?? "";
      let home = directory;
      for (const folder of folders) home = await home.getDirectoryHandle(folder);
      return await (await home.getFileHandle(file)).getFile();
    } catch (thrown) {
      if (thrown instanceof DOMException && ["NotFoundError", "TypeMismatchError"].includes(thrown.name)) return undefined;
      throw asError(thrown, "bad-file");
    }
  };
  const small = async (name: string): Promise<Uint8Array | undefined> => {
    const file = await open(name);
    return file && new Uint8Array(await file.arrayBuffer());
  };
  const ranged = async (name: string): Promise<RangedFile | undefined> => {
    const file = await open(name);
    return file && ofAny(file);
  };
  const names = (): AsyncIterable<string> => (directory as unknown as { keys(): AsyncIterable<string> }).keys();
  return { weights: () => weightsOf(`the folder ${directory.name}`, { open: ranged, small, names }), small };
}

/** A whole address; one that is relative is so to the page, or to `base`. */
export function absolute(address: string | URL, base: string | undefined = globalThis.location?.href): URL {
  try {
    return new URL(address, base);
  } catch (thrown) {
    throw new LampyrisError("bad-input", `'${address}' is no address`, { cause: thrown });
  }
}

function atAddress(source: string | URL, { cache, signal }: Options): Folder {
  const how = new Fetching(cache, signal);
  const address = absolute(source);
  const isFile = isWeights(address.pathname);
  const home = new URL(address);
  if (isFile) home.pathname = home.pathname.slice(0, home.pathname.lastIndexOf("/") + 1);
  else if (!home.pathname.endsWith("/")) home.pathname += "/";
  const at = (name: string): URL => {
    const file = new URL(name.split("/").map(encodeURIComponent).join("/"), home);
    file.search = address.search;
    return file;
  };
  const open = (name: string): Promise<RangedFile | undefined> => ranged(at(name), name, how);
  const inside: Inside = { open, small: (name) => small(at(name), how), names: () => [] };
  return {
    async weights() {
      if (!isFile) return weightsOf(address.href, inside, how.cache && ((await kept(at(INDEX).href))?.size ?? 0) > 0);
      const files = await all(parts(decodeURIComponent(address.pathname.slice(home.pathname.length))), open);
      if (files.length === 0) throw none(address.href);
      return { files };
    },
    small: inside.small,
    finish: () => how.finish(),
    discard: () => how.discard(),
  };
}
