// The tabs, as the ARIA pattern has them: one of them in the order of focus, arrow keys between them, the address remembers which.

import { by } from "./ui.js";

/** Wires the tabs up. `shown` is told the panel that is seen from now on. */
export function tabs(shown: (panel: string) => void): void {
  const all = [...document.querySelectorAll<HTMLButtonElement>("[role=tab]")];
  const panel = (tab: HTMLButtonElement): string => tab.getAttribute("aria-controls") ?? "";

  const select = (tab: HTMLButtonElement): void => {
    for (const other of all) {
      const chosen = other === tab;
      other.setAttribute("aria-selected", String(chosen));
      other.tabIndex = chosen ? 0 : -1;
      by(panel(other)).hidden = !chosen;
    }
    shown(panel(tab));
  };
  const choose = (tab: HTMLButtonElement): void => {
    select(tab);
    history.replaceState(null, "", `#${panel(tab)}`);
  };

  for (const [at, tab] of all.entries()) {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      const places: Record<string, number> = { ArrowRight: at + 1, ArrowLeft: at - 1 + all.length, Home: 0, End: all.length - 1 };
      const to = places[event.key];
      const next = to === undefined ? undefined : all[to % all.length];
      if (next === undefined) return;
      event.preventDefault();
      choose(next);
      next.focus();
    });
  }
  const byAddress = (): void => {
    const tab = all.find((tab) => `#${panel(tab)}` === location.hash);
    if (tab !== undefined) select(tab);
  };
  addEventListener("hashchange", byAddress);
  byAddress();
}
