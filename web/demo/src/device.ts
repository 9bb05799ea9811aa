// The tab about this device: what the browser says of its GPU, and whether the kernels are right on it.

import type { Lampyris } from "lampyris";
import { by, say, words } from "./ui.js";

const size = (bytes: number): string => (bytes >= 1 << 30 ? `${(bytes / (1 << 30)).toFixed(1)} GiB` : `${(bytes / (1 << 20)).toFixed(1)} MiB`);

/** Wires the tab up; gives what shows the facts anew. */
export function device(gpu: () => Promise<Lampyris>): () => Promise<void> {
  const facts = async (): Promise<void> => {
    const lampyris = await gpu();
    const [adapter, memory] = [lampyris.adapter(), lampyris.memory()];
    const rows: [string, string][] = [
      ["Adapter", adapter.name || "not told by the browser"],
      ["Kind", adapter.kind],
      ["16-bit floats", adapter.f16 ? "yes (not proved by our tests, which run on a software adapter)" : "no"],
      ["Largest binding", size(adapter.maxBindingBytes)],
      ["Largest buffer", size(adapter.maxBufferBytes)],
      ["Storage buffers a stage", String(adapter.maxStorageBuffers)],
      ["Workgroup memory", `${adapter.maxWorkgroupBytes} bytes`],
      ["GPU memory in use", size(memory.gpu)],
      ["Module's heap", size(memory.heap)],
      ["Devices lost", String(adapter.timesReopened)],
    ];
    by("facts").querySelector("tbody")?.replaceChildren(
      ...rows.map(([name, value]) => {
        const row = document.createElement("tr");
        const [head, cell] = [document.createElement("th"), document.createElement("td")];
        head.scope = "row";
        [head.textContent, cell.textContent] = [name, value];
        row.append(head, cell);
        return row;
      }),
    );
  };
  const examine = by<HTMLButtonElement>("examine");
  const bar = by<HTMLProgressElement>("examined");
  const look = async (): Promise<void> => {
    const begun = performance.now();
    by("findings").replaceChildren();
    bar.hidden = false;
    const checks = await (await gpu()).doctor({
      onProgress: (done, all) => {
        bar.value = done / all;
        say("examine-says", `${done} of ${all} cases`);
      },
    });
    const failed = checks.filter(({ passed }) => !passed);
    const kernels = new Set(checks.map(({ kernel }) => kernel)).size;
    const time = ((performance.now() - begun) / 1000).toFixed(1);
    say("examine-says", failed.length === 0
      ? `All ${kernels} kernels agree with their twins (${checks.length} checks, ${time} s).`
      : `${failed.length} of ${checks.length} checks failed.`);
    by("findings").replaceChildren(
      ...failed.map((check) => {
        const item = document.createElement("li");
        item.textContent = `${check.kernel} (${check.variant}), ${check.case}: ${check.failure ?? `off by ${check.worstError}`}`;
        return item;
      }),
    );
    await facts();
  };
  examine.addEventListener("click", () => {
    examine.disabled = true;
    look()
      .catch((thrown: unknown) => say("examine-says", words(thrown)))
      .finally(() => {
        examine.disabled = false;
        bar.hidden = true;
      });
  });
  return facts;
}
