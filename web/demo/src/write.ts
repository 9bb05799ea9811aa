// The Write tab: the bundled storyteller, or a model of the user's, piece by piece as it comes.

import { type Lampyris, LampyrisError } from "lampyris";
import { chosen, onDrop, picked } from "./pick.js";
import { type Distant, type Memory, type Teller, bundled, distant } from "./tellers.js";
import { by, element, once, say, size, words } from "./ui.js";

const BUNDLED = "Bundled: a storyteller of one million numbers, 1.2 MB.";

/** Wires the tab up. `memory` tells what a visitor's model holds beside the page's own device. */
export function write(gpu: () => Promise<Lampyris>): { memory(): Promise<Memory> } {
  const [tell, stop, cancel] = [by<HTMLButtonElement>("tell"), by<HTMLButtonElement>("stop"), by<HTMLButtonElement>("text-cancel")];
  const bar = by<HTMLProgressElement>("text-bar");
  const place = by("story-text");
  const back = by<HTMLButtonElement>("text-bundled");
  const storyteller = once<Teller>(async () => bundled(await gpu()));
  /** The model that was chosen; the bundled one where none was. */
  let own: Distant | undefined;
  /** The story under way, and the loading. */
  let going: AbortController | undefined;
  let loading: AbortController | undefined;
  let ended: Promise<void> = Promise.resolve();

  const buttons = (): void => {
    tell.disabled = going !== undefined || loading !== undefined;
    stop.disabled = going === undefined;
    bar.hidden = cancel.hidden = loading === undefined;
    back.hidden = own === undefined;
  };
  /** Lets a button go away; the focus would go with it, and goes to the first of others that can have it. */
  const leaving = (button: HTMLElement, ...others: HTMLElement[]): void => {
    const focused = document.activeElement === button;
    buttons();
    if (focused) others.find((other) => !other.hidden && !other.matches(":disabled"))?.focus();
  };
  /** Puts another model in the place of one that is silent. */
  const change = (fresh: Distant | undefined): void => {
    own?.dispose();
    own = fresh;
    leaving(back, by("text-files"));
  };
  /** Goes back to the bundled model where the worker of the other has ended: it would answer nothing any more. */
  const mourn = async (): Promise<void> => {
    const alive = (await own?.memory().then(() => true, () => false)) ?? true;
    if (alive) return;
    change(undefined);
    if (loading === undefined) say("text-name", "Your model's worker has ended; choose the model again. The bundled storyteller is used.", true);
  };

  const story = async (prompt: string, signal: AbortSignal): Promise<void> => {
    by("story-empty").hidden = true;
    place.hidden = false;
    place.replaceChildren(element("span", "given", prompt));
    const temperature = Number(by<HTMLInputElement>("temperature").value);
    const maxTokens = Number(by<HTMLSelectElement>("length").value);
    const drawn = temperature > 0 ? { temperature, topP: 0.95, seed: Math.floor(Math.random() * 2 ** 32) } : {};
    say("write-time", "Loading the model …");
    const model = own ?? (await storyteller());
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
        // For eyes; said aloud, the figures of every piece would be too much.
        by("write-time").setAttribute("aria-live", "off");
        figures(pieces, "pieces");
      }
    } finally {
      // Pieces are nearly tokens; how many tokens they were is known once all are there.
      const count = async (text: string): Promise<number> => (await model.encode(text)).length;
      const [all, given] = await Promise.all([count(prompt + told), count(prompt)]).catch(() => []);
      by("write-time").removeAttribute("aria-live");
      // A model that is no more counts none.
      if (pieces > 0 && all !== undefined && given !== undefined) figures(all - given, "tokens");
    }
    if (pieces === 0) say("write-time", "The model ends the story right there; begin it otherwise.");
  };

  const begin = (prompt: string): void => {
    const mine = (going = new AbortController());
    buttons();
    by("story").setAttribute("aria-busy", "true");
    ended = story(prompt, mine.signal)
      .catch(async (thrown: unknown) => {
        const aborted = thrown instanceof LampyrisError && thrown.code === "aborted";
        if (!aborted) say("write-time", words(thrown), true);
        else if (place.children.length === place.childNodes.length) say("write-time", "Stopped.");
        if (!aborted) await mourn();
      })
      .finally(() => {
        going = undefined;
        by("story").setAttribute("aria-busy", "false");
        leaving(stop, tell, cancel, by("text-files"));
      });
  };
  by("write-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const prompt = by<HTMLTextAreaElement>("prompt").value;
    if (prompt.trim() === "") return say("write-time", "Write how the story begins, a word at least.", true);
    if (!tell.disabled) begin(prompt);
  });
  stop.addEventListener("click", () => going?.abort());
  by<HTMLInputElement>("temperature").addEventListener("input", ({ target }) => {
    const { value } = target as HTMLInputElement;
    by("temperature-says").textContent = value === "0" ? "none" : value;
  });

  /** Puts another model in the place of the old one, once that one is silent. */
  const swap = async (fresh: Distant | undefined): Promise<void> => {
    going?.abort();
    await ended;
    change(fresh);
  };
  const take = async (files: File[]): Promise<void> => {
    if (files.length === 0) return;
    loading?.abort();
    const mine = (loading = new AbortController());
    const before = performance.now();
    try {
      const { name, files: parts, bytes } = picked(files, [".gguf", ".safetensors"]);
      say("text-name", `Loading ${name} …`);
      bar.value = 0;
      buttons();
      // The old one goes first: two may be more than the GPU holds.
      await swap(undefined);
      const fresh = await distant(parts, mine.signal, (share) => void (bar.value = share));
      if (mine.signal.aborted) return fresh.dispose();
      await swap(fresh);
      if (loading !== mine) return;
      say("text-name", `${name}, ${size(bytes)}, loaded in ${((performance.now() - before) / 1000).toFixed(1)} s.`);
    } catch (thrown) {
      // Another choice has taken the place of this one.
      if (loading !== mine) return;
      const which = own === undefined ? "The bundled storyteller is used." : "The model before it is kept.";
      say("text-name", `${mine.signal.aborted ? "Stopped." : words(thrown)} ${which}`, !mine.signal.aborted);
    } finally {
      if (loading === mine) {
        loading = undefined;
        leaving(cancel, by("text-files"));
      }
    }
  };
  cancel.addEventListener("click", () => loading?.abort());
  for (const id of ["text-files", "text-folder"]) {
    by<HTMLInputElement>(id).addEventListener("change", ({ target }) => void take(chosen(target as HTMLInputElement)));
  }
  back.addEventListener("click", () => {
    loading?.abort();
    loading = undefined;
    void swap(undefined).then(() => loading === undefined && say("text-name", BUNDLED));
  });
  onDrop(by("write"), (files) => void take(files), (thrown) => say("text-name", words(thrown), true));
  const nothing = { gpu: 0, heap: 0 };
  // A worker that ends while it is asked holds nothing any more.
  return { memory: async () => (await own?.memory().catch(() => nothing)) ?? nothing };
}
