// Small hands for the page: elements by name, bars, and what to say when something went wrong.

import { LampyrisError, type Prediction } from "lampyris";

/** The element of this id, of which there is one. */
export function by<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found as T;
}

/** Says a text where it is looked for. */
export const say = (id: string, text: string): void => {
  by(id).textContent = text;
};

/** An error in a person's words. */
export function words(thrown: unknown): string {
  if (thrown instanceof LampyrisError && thrown.code === "no-webgpu") {
    return "This browser has no WebGPU for this page. Chrome, Edge, Safari 26 and Firefox 141 have it; hardware acceleration must be on.";
  }
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** Shows predictions as bars. */
export function bars(id: string, predictions: Prediction[]): void {
  by(id).replaceChildren(
    ...predictions.map(({ label, probability }) => {
      const [row, name, meter, share] = ["li", "span", "meter", "span"].map((tag) => document.createElement(tag));
      (name as HTMLElement).textContent = label;
      (meter as HTMLMeterElement).value = probability;
      (meter as HTMLElement).setAttribute("aria-label", label);
      (share as HTMLElement).textContent = `${(100 * probability).toFixed(1)} %`;
      (row as HTMLElement).append(name as HTMLElement, meter as HTMLElement, share as HTMLElement);
      return row as HTMLElement;
    }),
  );
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
