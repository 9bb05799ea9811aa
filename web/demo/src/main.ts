// The page: tabs that work by keyboard, one device for all of them, and a plain word where there is none.

import { Lampyris } from "lampyris";
import { device } from "./device.js";
import { draw } from "./draw.js";
import { photo } from "./photo.js";
import { by, once, say, words } from "./ui.js";
import { write } from "./write.js";

const notice = (text: string): void => {
  by("notice").hidden = false;
  say("notice", text);
};

const gpu = once(async () => {
  const lampyris = await Lampyris.create();
  if (lampyris.adapter().software) {
    notice("This browser's adapter is a program on the CPU, not a GPU: everything is right, and slow.");
  }
  return lampyris;
});

const tabs = [...document.querySelectorAll<HTMLButtonElement>("[role=tab]")];
const shown = new Map<string, () => Promise<void>>();

function select(tab: HTMLButtonElement): void {
  for (const other of tabs) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", String(chosen));
    other.tabIndex = chosen ? 0 : -1;
    by(other.getAttribute("aria-controls") ?? "").hidden = !chosen;
  }
  shown.get(tab.id)?.().catch((thrown: unknown) => notice(words(thrown)));
}

for (const [at, tab] of tabs.entries()) {
  tab.addEventListener("click", () => select(tab));
  tab.addEventListener("keydown", ({ key }) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
    const to = key === "Home" ? 0 : key === "End" ? tabs.length - 1 : step && (at + step + tabs.length) % tabs.length;
    const next = to === undefined ? undefined : tabs[to];
    if (next === undefined) return;
    select(next);
    next.focus();
  });
}

draw(gpu);
photo(gpu);
write(gpu);
shown.set("tab-device", device(gpu));
gpu().catch((thrown: unknown) => notice(words(thrown)));
if (import.meta.env.PROD && "serviceWorker" in navigator) {
  navigator.serviceWorker.register(new URL("worker.js", document.baseURI)).catch(() => {
    // Without it the page works, but not without a network.
  });
}
