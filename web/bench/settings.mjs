// Times what the module itself does, for builds of the package with different compile settings: processor time of the page's process, in turn.

import { readFileSync, readdirSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { material, open } from "../test/browser.mjs";

const { values: options, positionals: folders } = parseArgs({
  options: { gguf: { type: "string" }, rounds: { type: "string", default: "3" } },
  allowPositionals: true,
});
const refuse = (what) => {
  console.error(what);
  process.exit(2);
};
if (folders.length === 0 || options.gguf === undefined) {
  refuse("node settings.mjs --gguf MODEL.gguf [--rounds 3] FOLDER...: the folders are copies of web/pkg from builds with different settings");
}
if (material === undefined) refuse("the trained networks are missing; tests/MATERIAL.md says what belongs there");
if (process.platform !== "linux") refuse("processor time is read from /proc, which only Linux has");

/** Seconds that this bench's pages have had of the processor: the browser's GPU process, where a software adapter computes, is another. */
function seconds() {
  const processes = new Map();
  for (const id of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const fields = readFileSync(`/proc/${id}/stat`, "utf8").replace(/^.*\) /s, "").split(" ");
      const page = readFileSync(`/proc/${id}/cmdline`, "utf8").includes("--type=renderer");
      processes.set(Number(id), { parent: Number(fields[1]), ticks: page ? Number(fields[11]) + Number(fields[12]) : 0 });
    } catch {
      // It has ended meanwhile.
    }
  }
  const ours = (id) => id === process.pid || (processes.has(id) && ours(processes.get(id).parent));
  return [...processes].reduce((sum, [id, { ticks }]) => sum + (ours(id) ? ticks : 0), 0) / 100;
}

const STEPS = {
  "device and module": async () => {
    const { Lampyris } = await import(`/${window.build}/lampyris.js`);
    window.gpu = await Lampyris.create();
  },
  "loading MobileNetV2 and a run": async () => {
    const blob = await (await fetch("/material/images/0000_n01440764_tench.jpg")).blob();
    window.picture = await createImageBitmap(blob);
    window.model = await window.gpu.loadVision("/material/mobilenet_v2/", { cache: false });
    await window.model.classify(window.picture);
  },
  "10 runs": async () => {
    for (let run = 0; run < 10; run += 1) await window.model.classify(window.picture);
  },
  "loading the text model": async () => {
    window.teller = await window.gpu.loadText(`/gguf/${window.file}`, { cache: false });
  },
  "8 tokens": async () => {
    for await (const _ of window.teller.generate("Once upon a time", { maxTokens: 8 }));
  },
  "encoding 44 KB of text": async () => {
    const words = "The small fire of a firefly, 3 times a night: nobody's lamp is as cold. ";
    await window.teller.encode(words.repeat(600));
  },
};

const names = folders.map((folder) => basename(resolve(folder)));
const rounds = Number(options.rounds);
const file = resolve(options.gguf);
const found = Object.fromEntries(names.map((name) => [name, Object.fromEntries(Object.keys(STEPS).map((step) => [step, []]))]));
for (let round = 0; round < rounds; round += 1) {
  for (const [at, name] of names.entries()) {
    const browser = await open({ [name]: resolve(folders[at]), gguf: dirname(file), bench: import.meta.dirname });
    try {
      const page = await browser.page("/bench/page.html");
      page.setDefaultTimeout(0);
      await page.evaluate(([build, file]) => Object.assign(window, { build, file }), [name, basename(file)]);
      for (const [step, run] of Object.entries(STEPS)) {
        const [before, begun] = [seconds(), performance.now()];
        await page.evaluate(run);
        found[name][step].push([seconds() - before, (performance.now() - begun) / 1000]);
      }
    } finally {
      await browser.close();
    }
  }
}

console.log(`| build | bytes | ${Object.keys(STEPS).join(" | ")} |`);
console.log(`| --- | --- |${" --- |".repeat(Object.keys(STEPS).length)}`);
for (const [at, name] of names.entries()) {
  const cells = Object.values(found[name]).map((times) => {
    const least = (which) => Math.min(...times.map((time) => time[which]));
    return `${least(0).toFixed(2)} of ${least(1).toFixed(2)} s`;
  });
  console.log(`| ${name} | ${statSync(join(folders[at], "lampyris_bg.wasm")).size} | ${cells.join(" | ")} |`);
}
