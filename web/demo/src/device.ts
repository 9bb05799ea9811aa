// The tab about this device: what the browser says of its GPU, what the page holds on it, and whether the kernels are right on it.

import { type Check, Lampyris, LampyrisError, LampyrisWorker } from "lampyris";
import type { Memory } from "./tellers.js";
import { by, element, say, size, words } from "./ui.js";

/** How often the figures of memory are read while they are seen, in milliseconds. */
const EVERY = 1000;

const row = (name: string, ...values: string[]): HTMLElement => {
  const made = element("tr", "");
  const head = element("th", "", name) as HTMLTableCellElement;
  head.scope = "row";
  made.append(head, ...values.map((value) => element("td", "", value)));
  return made;
};
const fill = (table: string, rows: HTMLElement[]): void => by(table).querySelector("tbody")?.replaceChildren(...rows);

/** Wires the tab up. `beside` tells what is held beside the page's own device; `watch` is told whether the tab is seen. */
export function device(gpu: () => Promise<Lampyris>, beside: () => Promise<Memory>): { watch(seen: boolean): void } {
  const facts = async (): Promise<void> => {
    const lampyris = await gpu();
    const [adapter, here, there] = [lampyris.adapter(), lampyris.memory(), await beside()];
    const kept = (await navigator.storage?.estimate?.())?.usage;
    const rows: [string, string][] = [
      ["Adapter", adapter.name || "not told by the browser"],
      ["Kind", adapter.kind],
      ["16-bit floats", adapter.f16 ? "yes, not proved by our tests" : "no"],
      ["Largest binding", size(adapter.maxBindingBytes)],
      ["Largest buffer", size(adapter.maxBufferBytes)],
      ["Storage buffers a stage", String(adapter.maxStorageBuffers)],
      ["Workgroup memory", size(adapter.maxWorkgroupBytes)],
      ["Invocations a workgroup", String(adapter.maxInvocations)],
      ["GPU memory in use", size(here.gpu + there.gpu)],
      ["Heap of the module", size(here.heap + there.heap)],
      ["Kept in this browser", kept === undefined ? "not told" : size(kept)],
      ["Device lost and reopened", `${adapter.timesReopened} times`],
    ];
    by("facts-empty").hidden = true;
    const body = by<HTMLTableElement>("facts").tBodies[0];
    // Only what changes is written, so that neither a selection nor a screen reader's place in the table is lost.
    for (const [at, [name, value]] of rows.entries()) {
      const cell = body?.rows[at]?.cells[1];
      if (cell === undefined) body?.append(row(name, value));
      else if (cell.textContent !== value) cell.textContent = value;
    }
  };
  const examine = by<HTMLButtonElement>("examine");
  const bar = by<HTMLProgressElement>("examined");
  const forget = by<HTMLButtonElement>("forget");

  let timer: number | undefined;
  const watch = (seen: boolean): void => {
    clearInterval(timer);
    if (!seen) return;
    const look = (): void =>
      void facts().catch((thrown: unknown) => {
        clearInterval(timer);
        by("facts-empty").hidden = false;
        say("facts-empty", words(thrown), true);
        if (thrown instanceof LampyrisError && thrown.code === "no-webgpu") examine.disabled = true;
      });
    timer = setInterval(look, EVERY);
    look();
  };

  /** How near the worst check of a kernel came to what is allowed. */
  const share = (checks: Check[]): string => {
    if (checks.some(({ passed }) => !passed)) return "failed";
    const worst = Math.max(...checks.map(({ worstError, tolerance }) => (tolerance > 0 ? (worstError ?? 0) / tolerance : 0)));
    return worst === 0 ? "none" : `${(100 * worst).toPrecision(2)} %`;
  };
  const look = async (): Promise<void> => {
    const begun = performance.now();
    by("findings").replaceChildren();
    [bar.hidden, bar.value] = [false, 0];
    const lampyris = await gpu();
    const onProgress = (done: number, all: number): void => {
      bar.value = done / all;
      // For eyes; said aloud, every case would be too much.
      by("examine-says").setAttribute("aria-live", "off");
      say("examine-says", `${done} of ${all} cases`);
    };
    // A twin keeps its thread while it computes, so they have one to themselves; the adapter is the same.
    const worker = await LampyrisWorker.create();
    const checks = await worker.doctor({ onProgress }).finally(() => {
      worker.dispose();
      by("examine-says").removeAttribute("aria-live");
    });
    const failed = checks.filter(({ passed }) => !passed);
    const kernels = new Map<string, Check[]>();
    for (const check of checks) kernels.set(check.kernel, [...(kernels.get(check.kernel) ?? []), check]);
    const time = ((performance.now() - begun) / 1000).toFixed(1);
    if (failed.length === 0) say("examine-says", `All ${kernels.size} kernels agree with their twins: ${checks.length} checks in ${time} s.`);
    else say("examine-says", `${failed.length} of ${checks.length} checks failed: do not trust this adapter's results.`, true);
    by("findings").replaceChildren(
      ...failed.map((check) =>
        element("li", "", `${check.kernel} (${check.variant}), ${check.case}: ${check.failure ?? `off by ${check.worstError}`}`),
      ),
    );
    // What is not there can be neither right nor wrong.
    const { f16, subgroups } = lampyris.adapter();
    const lacking = [f16 ? [] : ["16-bit floats"], subgroups ? [] : ["subgroups"]].flat().join(" or ");
    say("unproved", lacking === "" ? "" : `Nothing is proved of variants with ${lacking}: this page has none on this adapter.`);
    by("kernels-all").hidden = false;
    // Long names may break where words end.
    const broken = (name: string): string => name.replaceAll("_", "_\u200b");
    fill("kernels", [...kernels].map(([kernel, checks]) => row(broken(kernel), String(checks.length), share(checks))));
  };
  examine.addEventListener("click", () => {
    if (examine.ariaDisabled === "true") return;
    // A button that is disabled outright would lose the focus.
    examine.ariaDisabled = "true";
    look()
      .catch((thrown: unknown) => say("examine-says", words(thrown), true))
      .finally(() => {
        examine.ariaDisabled = null;
        bar.hidden = true;
      });
  });
  forget.addEventListener("click", () => {
    Lampyris.forget()
      .then(() => say("forget-says", "What the package kept here is gone; the page itself stays for visits without a network."))
      .catch((thrown: unknown) => say("forget-says", words(thrown), true));
  });
  return { watch };
}
