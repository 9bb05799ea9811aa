// Files that a person picks or drops, put together to a model: from a folder, from several files, or from one.

/** A choice that makes no model; the message says what is missing. */
export class Unfit extends Error {}

/** What a model is made of, and what to call it. */
export interface Picked {
  name: string;
  /** The weights first, in the order of their parts. */
  files: File[];
  /** Bytes of the weights. */
  bytes: number;
}

const WEIGHTS = /\.(safetensors|gguf)$/i;

const WHOLE = "model.safetensors";

/** What the parts of one model are called: in their place, of so many. */
const PART = /^(.+)-\d{5}-of-(\d{5})\.(safetensors|gguf)$/i;

/** Those of the weights that are one model; several where it is in parts. */
function together(weights: File[], indexed: boolean): File[] {
  const whole = weights.find(({ name }) => name === WHOLE) ?? (weights.length === 1 ? weights[0] : undefined);
  if (whole !== undefined) return [whole];
  const shards = weights.filter(({ name }) => /\.safetensors$/i.test(name));
  // Which shards there are says the index; a file beside them that is none of them is not read.
  if (indexed && shards.length > 0) return shards.some(({ name }) => PART.test(name)) ? shards.filter(({ name }) => PART.test(name)) : shards;
  const sets = new Set(weights.map(({ name }) => PART.test(name) && name.replace(PART, "$1 of $2.$3")));
  return sets.size === 1 && !sets.has(false) ? weights : [];
}

/** Whether files that were dropped are a model, and not a photo. */
export const isModel = (files: File[]): boolean => files.some(({ name }) => WEIGHTS.test(name));

/** The model among files: the weights with all that lies beside them. `kinds` are the endings of weights that are of use here. */
export function picked(files: File[], kinds: string[]): Picked {
  // A folder's own files, not those of folders in it.
  const flat = files.filter(({ webkitRelativePath }) => webkitRelativePath.split("/").length <= 2);
  const folder = flat[0]?.webkitRelativePath.split("/")[0] ?? "";
  const weights = flat.filter(({ name }) => kinds.some((kind) => name.toLowerCase().endsWith(kind)));
  const index = `${WHOLE}.index.json`;
  const indexed = flat.some(({ name }) => name === index);
  const parts = together(weights, indexed).sort((a, b) => (a.name < b.name ? -1 : 1));
  const where = folder === "" ? "what you chose" : `the folder ${folder}`;
  if (weights.length === 0) throw new Unfit(`There is no ${kinds.join(" or ")} file in ${where}; choose a folder that has one.`);
  const [first] = parts;
  if (first === undefined) {
    throw new Unfit(`There are ${weights.length} files of weights in ${where}; choose one of them, with its .json files.`);
  }
  if (parts.length > 1 && !indexed && /\.safetensors$/i.test(first.name)) {
    throw new Unfit(`The ${parts.length} files of weights in ${where} are parts of one model; choose them with its ${index}.`);
  }
  const beside = flat.filter(({ name }) => !WEIGHTS.test(name));
  return { name: folder === "" ? first.name : folder, files: [...parts, ...beside], bytes: parts.reduce((sum, part) => sum + part.size, 0) };
}

/** The files of an input; it can be asked for the same ones again afterwards. */
export function chosen(input: HTMLInputElement): File[] {
  const files = [...(input.files ?? [])];
  input.value = "";
  return files;
}

/** The files that were dropped, those of a dropped folder among them. */
export async function dropped(data: DataTransfer): Promise<File[]> {
  // Entries must be asked for before the first wait: the drop is over then.
  const entries = [...data.items].map((item) => item.webkitGetAsEntry());
  const loose = [...data.files];
  const folders = entries.filter((entry) => entry?.isDirectory) as FileSystemDirectoryEntry[];
  if (folders.length === 0) return loose;
  const files: File[] = [];
  for (const folder of folders) {
    const reader = folder.createReader();
    // A folder is read in parts, until one is empty.
    for (;;) {
      const part = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
      if (part.length === 0) break;
      const inside = part.filter((entry) => entry.isFile) as FileSystemFileEntry[];
      files.push(...(await Promise.all(inside.map((entry) => new Promise<File>((resolve, reject) => entry.file(resolve, reject))))));
    }
  }
  return files;
}

/** Lets files be dropped on an element. */
export function onDrop(place: HTMLElement, take: (files: File[]) => void, failed: (thrown: unknown) => void): void {
  place.addEventListener("dragover", (event) => {
    event.preventDefault();
    place.classList.add("over");
  });
  place.addEventListener("dragleave", () => place.classList.remove("over"));
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    place.classList.remove("over");
    if (event.dataTransfer !== null) dropped(event.dataTransfer).then(take).catch(failed);
  });
}
