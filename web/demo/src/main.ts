// The page: one device and one classifier of drawings for all tabs, and a plain word where there is no device.

import { Lampyris, type Vision } from "lampyris";
import { device } from "./device.js";
import { draw } from "./draw.js";
import { offline } from "./register.js";
import { photo } from "./photo.js";
import { tabs } from "./tabs.js";
import { by, once, say, words } from "./ui.js";
import { write } from "./write.js";

const chip = (state: string, text: string): void => {
  by("chip").dataset["state"] = state;
  by("chip").title = text;
  say("chip-says", text);
};

const gpu = once(async () => {
  try {
    const lampyris = await Lampyris.create();
    const { software, name, kind } = lampyris.adapter();
    chip(software ? "slow" : "on", name === "" ? kind : name);
    say("notice", software ? "This browser's adapter is a program on the CPU, not a GPU: everything here is right, and slow." : "");
    return lampyris;
  } catch (thrown) {
    chip("off", "No WebGPU");
    say("notice", words(thrown));
    throw thrown;
  }
});

// The package's own store is not needed for what the service worker keeps already.
const sketches = once<Vision>(async () => (await gpu()).loadVision(new URL("models/sketches/", document.baseURI), { cache: false }));

draw(sketches);
const camera = photo(gpu, sketches);
const { memory } = write(gpu);
const facts = device(gpu, memory);
tabs((panel) => {
  if (panel !== "photo") camera.stop();
  facts.watch(panel === "device");
});
// The first stroke finds the model there. What goes wrong is said above the tabs, or at the first stroke.
sketches().catch(() => {});
offline();
