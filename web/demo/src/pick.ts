// Files that a person picks or drops, put together to a model: from a folder, from several files, or from one.

/** A choice that makes no model; the message says what is missing. */
export class Unfit extends Error {}

/** What a model is made of, and what to call it. */
export interface Picked {
  name: string;
  /** The weights first. */
  files: File[];
}

const WEIGHTS = /\.(safetensors|gguf)$/i;

/** Whether files that were dropped are a model, and not a photo. */
export const isModel = (files: File[]): boolean => files.some(({ name }) => WEIGHTS.test(name));

/** The model among files: the weights with all that lies beside them. `kinds` are the endings of weights that are of use here. */
export function picked(files: File[], kinds: string[]): Picked {
  // A folder's own files, not those of folders in it.
  const flat = files.filter(({ webkitRelativePath }) => webkitRelativePath.split("/").length <= 2);
  const folder = flat[0]?.webkitRelativePath.split("/")[0] ?? "";
  const weights = flat.filter(({ name }) => kinds.some((kind) => name.toLowerCase().endsWith(kind)));
  const best = weights.find(({ name }) => name === "model.safetensors") ?? weights[0];
  const where = folder === "" ? "what you chose" : `the folder ${folder}`;
  if (best === undefined) throw new Unfit(`There is no ${kinds.join(" or ")} file in ${where}; choose a folder that has one.`);
  if (weights.length > 1 && best.name !== "model.safetensors") {
    throw new Unfit(`There are ${weights.length} files of weights in ${where}; choose one of them, with its .json files.`);
  }
  return { name: folder === "" ? best.name : folder, files: [best, ...flat.filter(({ name }) => !WEIGHTS.test(name))] };
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
