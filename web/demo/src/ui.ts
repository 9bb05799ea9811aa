// Small hands for the page: elements by name, bars, and what to say when something went wrong.

import { LampyrisError, type Prediction } from "lampyris";

/** The element of this id, of which there is one. */
export function by<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found as T;
}

/** Says a text where it is looked for. A text that stands there already is not said again, or screen readers would repeat it. */
export function say(id: string, text: string, failed = false): void {
  const place = by(id);
  if (place.textContent !== text) place.textContent = text;
  place.classList.toggle("failed", failed);
}

/** An element with a class and a text. */
export function element(tag: string, name: string, text = ""): HTMLElement {
  const made = document.createElement(tag);
  if (name !== "") made.className = name;
  made.textContent = text;
  return made;
}

/** What to do where the browser has no WebGPU. */
export const NO_WEBGPU =
  "This browser gives the page no WebGPU, so nothing here can run. Chrome and Edge from 113, Safari from 26 and Firefox from 141 have it; hardware acceleration must be on in their settings.";

/** An error in a person's words: one sentence, with the way out. */
export function words(thrown: unknown): string {
  if (!(thrown instanceof LampyrisError)) return thrown instanceof Error ? thrown.message : String(thrown);
  if (thrown.code === "no-webgpu") return NO_WEBGPU;
  if (thrown.code === "network" && !navigator.onLine) return "This needs the network once; connect and try again.";
  // A sentence begins with a capital letter, but a file's name stays what it is.
  const sentence = thrown.message.replace(/^[a-z](?=[a-z]* )/, (first) => first.toUpperCase());
  return /[.!?]$/.test(sentence) ? sentence : `${sentence}.`;
}

/** Shows predictions as bars. The rows stay where they are, so that they can move instead of flicker. */
export function bars(id: string, predictions: Prediction[]): void {
  const list = by(id);
  while (list.children.length > predictions.length) list.lastElementChild?.remove();
  for (const [at, { label, probability }] of predictions.entries()) {
    let row = list.children[at];
    if (row === undefined) {
      row = element("li", "");
      const track = element("span", "track");
      track.setAttribute("aria-hidden", "true");
      track.append(element("span", "fill"));
      row.append(element("span", "name"), track, element("span", "share"));
      list.append(row);
    }
    const [name, track, share] = row.children as unknown as [HTMLElement, HTMLElement, HTMLElement];
    name.textContent = name.title = label;
    (track.firstElementChild as HTMLElement).style.width = `${(100 * probability).toFixed(1)}%`;
    share.textContent = `${(100 * probability).toFixed(1)} %`;
  }
}

/** Bytes in a person's words. */
export function size(bytes: number): string {
  if (bytes >= 1 << 30) return `${(bytes / (1 << 30)).toFixed(1)} GiB`;
  return bytes >= 1 << 20 ? `${(bytes / (1 << 20)).toFixed(1)} MiB` : `${Math.ceil(bytes / 1024)} KiB`;
}

/** A promise made when it is first asked for, and again after it failed. */
export function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make().catch((thrown) => {
      made = undefined;
      throw thrown;
    });
    return made;
  };
}
