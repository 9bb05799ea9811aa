// The Write tab: the bundled storyteller, or a model of the user's, piece by piece as it comes.

import { type Lampyris, LampyrisError, type Text } from "lampyris";
import { by, once, say, words } from "./ui.js";

/** Wires the tab up. */
export function write(gpu: () => Promise<Lampyris>): void {
  let model = once<Text>(async () => (await gpu()).loadText(new URL("models/storyteller/storyteller.gguf", document.baseURI)));
  const [tell, stop] = [by<HTMLButtonElement>("tell"), by<HTMLButtonElement>("stop")];
  let going: AbortController | undefined;

  const story = async (prompt: string, signal: AbortSignal): Promise<void> => {
    const place = by("story");
    place.textContent = prompt;
    const temperature = Number(by<HTMLInputElement>("temperature").value);
    const drawn = temperature > 0 ? { temperature, topP: 0.95, seed: Math.floor(Math.random() * 2 ** 32) } : {};
    say("write-time", "Loading …");
    const teller = await model();
    let [pieces, begun] = [0, performance.now()];
    for await (const piece of teller.generate(prompt, { maxTokens: 200, signal, ...drawn })) {
      place.append(piece);
      pieces += 1;
      if (pieces === 1) begun = performance.now();
      else say("write-time", `${((1000 * (pieces - 1)) / (performance.now() - begun)).toFixed(1)} pieces a second`);
    }
  };

  by("write-form").addEventListener("submit", (event) => {
    event.preventDefault();
    going?.abort();
    const mine = (going = new AbortController());
    [tell.disabled, stop.disabled] = [true, false];
    story(by<HTMLTextAreaElement>("prompt").value, mine.signal)
      .catch((thrown: unknown) => {
        if (!(thrown instanceof LampyrisError && thrown.code === "aborted")) say("write-time", words(thrown));
      })
      .finally(() => ([tell.disabled, stop.disabled] = [false, true]));
  });
  stop.addEventListener("click", () => going?.abort());
  by<HTMLInputElement>("text-files").addEventListener("change", (event) => {
    const files = [...((event.target as HTMLInputElement).files ?? [])];
    if (files.length === 0) return;
    going?.abort();
    const before = model;
    model = once(async () => {
      before().then((old) => old.dispose(), () => {});
      return (await gpu()).loadText(files, { context: 2048 });
    });
    say("write-time", `${files[0]?.name} is loaded when it is asked for a story.`);
  });
}
