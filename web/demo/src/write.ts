// The Write tab: the bundled storyteller, or a model of the user's, piece by piece as it comes.

import { type Lampyris, LampyrisError, type Text } from "lampyris";
import { chosen, onDrop, picked } from "./pick.js";
import { by, element, once, say, size, words } from "./ui.js";

const BUNDLED = "Bundled: a storyteller of one million numbers, 1.2 MB.";

/** Wires the tab up. */
export function write(gpu: () => Promise<Lampyris>): void {
  const [tell, stop] = [by<HTMLButtonElement>("tell"), by<HTMLButtonElement>("stop")];
  const bar = by<HTMLProgressElement>("text-bar");
  const place = by("story-text");
  const bundled = once<Text>(async () => {
    const address = new URL("models/storyteller/storyteller.gguf", document.baseURI);
    return (await gpu()).loadText(address, { cache: false });
  });
  /** The model that was chosen; the bundled one where none was. */
  let own: Text | undefined;
  let going: AbortController | undefined;
  let ended: Promise<void> = Promise.resolve();

  const story = async (prompt: string, signal: AbortSignal): Promise<void> => {
    by("story-empty").hidden = true;
    place.hidden = false;
    place.replaceChildren(element("span", "given", prompt));
    const temperature = Number(by<HTMLInputElement>("temperature").value);
    const maxTokens = Number(by<HTMLSelectElement>("length").value);
    const drawn = temperature > 0 ? { temperature, topP: 0.95, seed: Math.floor(Math.random() * 2 ** 32) } : {};
    say("write-time", "Loading the model …");
    const model = own ?? (await bundled());
    const asked = performance.now();
    let [pieces, first, told] = [0, 0, ""];
    const figures = (tokens: number, what: string): void => {
      const seconds = (performance.now() - first) / 1000;
      const rate = pieces > 1 ? `, ${((tokens - 1) / seconds).toFixed(1)} ${what} a second` : "";
      say("write-time", `First word after ${(first - asked).toFixed(0)} ms${rate}.`);
    };
    try {
      say("write-time", "Reading the beginning …");
      for await (const piece of model.generate(prompt, { maxTokens, signal, ...drawn })) {
        pieces += 1;
        if (pieces === 1) first = performance.now();
        place.append(piece);
        told += piece;
        figures(pieces, "pieces");
      }
    } finally {
      // Pieces are nearly tokens; how many tokens they were is known once all are there.
      const tokens = pieces > 1 ? (await model.encode(prompt + told)).length - (await model.encode(prompt)).length : 0;
      if (pieces > 0) figures(tokens, "tokens");
    }
    if (pieces === 0) say("write-time", "The model ends the story right there; begin it otherwise.");
  };

  const begin = (prompt: string): void => {
    const mine = (going = new AbortController());
    [tell.disabled, stop.disabled] = [true, false];
    by("story").setAttribute("aria-busy", "true");
    ended = story(prompt, mine.signal)
      .catch((thrown: unknown) => {
        const aborted = thrown instanceof LampyrisError && thrown.code === "aborted";
        if (!aborted) say("write-time", words(thrown), true);
        else if (place.children.length === place.childNodes.length) say("write-time", "Stopped.");
      })
      .finally(() => {
        const focused = document.activeElement === stop;
        [tell.disabled, stop.disabled] = [false, true];
        by("story").setAttribute("aria-busy", "false");
        // A button that is switched off would take the focus with it.
        if (focused) tell.focus();
      });
  };
  by("write-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const prompt = by<HTMLTextAreaElement>("prompt").value;
    if (prompt.trim() === "") return say("write-time", "Write how the story begins, a word at least.", true);
    begin(prompt);
  });
  stop.addEventListener("click", () => going?.abort());
  by<HTMLInputElement>("temperature").addEventListener("input", ({ target }) => {
    const { value } = target as HTMLInputElement;
    by("temperature-says").textContent = value === "0" ? "none" : value;
  });

  /** Puts another model in the place of the old one, once that one is silent. */
  const swap = async (fresh: Text | undefined): Promise<void> => {
    going?.abort();
    await ended;
    own?.dispose();
    own = fresh;
    by("text-bundled").hidden = fresh === undefined;
  };
  const take = async (files: File[]): Promise<void> => {
    if (files.length === 0) return;
    const before = performance.now();
    try {
      const { name, files: parts } = picked(files, [".gguf", ".safetensors"]);
      say("text-name", `Loading ${name} …`);
      bar.hidden = false;
      tell.disabled = true;
      // The old one goes first: two may be more than the GPU holds.
      await swap(undefined);
      const onProgress = (share: number): void => void (bar.value = share);
      await swap(await (await gpu()).loadText(parts, { onProgress }));
      const bytes = size(parts[0]?.size ?? 0);
      say("text-name", `${name}, ${bytes}, loaded in ${((performance.now() - before) / 1000).toFixed(1)} s.`);
    } catch (thrown) {
      say("text-name", `${words(thrown)} The bundled storyteller is used.`, true);
    } finally {
      bar.hidden = true;
      tell.disabled = false;
    }
  };
  for (const id of ["text-files", "text-folder"]) {
    by<HTMLInputElement>(id).addEventListener("change", ({ target }) => void take(chosen(target as HTMLInputElement)));
  }
  by("text-bundled").addEventListener("click", () => {
    void swap(undefined).then(() => say("text-name", BUNDLED));
  });
  onDrop(by("write"), (files) => void take(files), (thrown) => say("text-name", words(thrown), true));
}
