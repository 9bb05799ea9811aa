// Times the package beside onnxruntime-web's WebGPU provider: the same networks, photo, Chromium and adapter, both in one page and in turn.

import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";
import { material, open } from "../test/browser.mjs";

const { values: options } = parseArgs({
  options: { onnx: { type: "string" }, runs: { type: "string", default: "9" }, json: { type: "string" }, only: { type: "string" } },
});
const here = import.meta.dirname;
const ort = join(here, "node_modules/onnxruntime-web/dist");
const pkg = resolve(here, "../pkg");
const refuse = (what) => {
  console.error(what);
  process.exit(2);
};
if (options.onnx === undefined) refuse("node vision.mjs --onnx FOLDER [--runs 9] [--only NETWORK] [--json FILE]: the folder is what onnx_of.py wrote");
if (material === undefined) refuse("the trained networks are missing; tests/MATERIAL.md says what belongs there");
if (!existsSync(ort)) refuse("onnxruntime-web is missing; run `npm ci` in web/bench");
const runs = Number(options.runs);
const networks = ["mobilenet_v2", "mobilenet_v3_small"].filter((name) => options.only === undefined || options.only === name);

const visit = () => open({ bench: here, ort, onnx: resolve(options.onnx) });
/** A page on which the browser may keep what it is given. */
async function page(browser) {
  browser.server.manners.headers = { "cache-control": "max-age=3600" };
  const page = await browser.page("/bench/page.html");
  page.setDefaultTimeout(0);
  return page;
}

/** Loads an engine and a network and looks once; gives the milliseconds from nothing on the page to the answer. Runs in the page. */
async function first([engine, network, photo]) {
  const picture = await createImageBitmap(await (await fetch(photo)).blob());
  const begun = performance.now();
  window.engines ??= {};
  if (engine === "lampyris") {
    const { Lampyris } = await import("/pkg/lampyris.js");
    const gpu = await Lampyris.create();
    const model = await gpu.loadVision(`/material/${network}/`);
    window.engines[engine] = async () => (await model.classify(picture, { top: 1 }))[0].index;
  } else {
    const ort = await import("/ort/ort.webgpu.min.mjs");
    ort.env.wasm.wasmPaths = "/ort/";
    ort.env.wasm.numThreads = 1;
    const session = await ort.InferenceSession.create(`/onnx/${network}.onnx`, { executionProviders: ["webgpu"] });
    // Its input is prepared outside of what is timed: shorter side to 256, the middle 224, from -1 to 1.
    const [canvas, scale] = [new OffscreenCanvas(224, 224), 256 / Math.min(picture.width, picture.height)];
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    const [width, height] = [picture.width * scale, picture.height * scale];
    context.drawImage(picture, (224 - width) / 2, (224 - height) / 2, width, height);
    const { data } = context.getImageData(0, 0, 224, 224);
    const values = new Float32Array(3 * 224 * 224);
    for (let at = 0; at < 224 * 224; at += 1) {
      for (let channel = 0; channel < 3; channel += 1) values[channel * 224 * 224 + at] = data[4 * at + channel] / 127.5 - 1;
    }
    window.engines[engine] = async () => {
      const input = new ort.Tensor("float32", values, [1, 3, 224, 224]);
      const [output] = Object.values(await session.run({ [session.inputNames[0]]: input }));
      return output.data.indexOf(Math.max(...output.data));
    };
  }
  const index = await window.engines[engine]();
  return { ms: performance.now() - begun, index };
}

/** One run of an engine that is there; gives milliseconds and dispatches. Runs in the page. */
async function again(engine) {
  const before = window.dispatches;
  const begun = performance.now();
  const index = await window.engines[engine]();
  return { ms: performance.now() - begun, dispatches: window.dispatches - before, index };
}

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const sizes = (folder, names) => {
  const bytes = names.map((name) => readFileSync(join(folder, name)));
  return { files: names, bytes: bytes.reduce((sum, it) => sum + it.length, 0), gzipped: bytes.reduce((sum, it) => sum + gzipSync(it, { level: 9 }).length, 0) };
};
const ENGINES = ["lampyris", "onnxruntime-web"];
const result = { date: new Date().toISOString().slice(0, 10), processor: cpus()[0].model, cores: cpus().length, runs, wasm: {}, networks: {} };
const scripts = readdirSync(pkg).filter((file) => file.endsWith(".js"));
result.wasm = {
  lampyris: { module: sizes(pkg, ["lampyris_bg.wasm"]), scripts: sizes(pkg, scripts) },
  "onnxruntime-web": {
    version: JSON.parse(readFileSync(join(ort, "../package.json"), "utf8")).version,
    module: sizes(ort, ["ort-wasm-simd-threaded.asyncify.wasm"]),
    scripts: sizes(ort, ["ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs"]),
  },
};

for (const network of networks) {
  const { images } = JSON.parse(readFileSync(join(material, network, "reference.json"), "utf8"));
  const sure = images.find((image) => image.margin > 3);
  const photo = `/material/images/${sure.file}`;
  const expected = sure.top5[0].index;
  const right = (engine, { index }) => {
    if (index !== expected) throw new Error(`${engine} sees class ${index} where the reference of ${network} sees ${expected}`);
  };
  const found = (result.networks[network] = {});
  for (const engine of ENGINES) {
    // A browser that has seen nothing yet, then a second page of it.
    const browser = await visit();
    try {
      for (const when of ["cold", "cached"]) {
        const fresh = await page(browser);
        const once = await fresh.evaluate(first, [engine, network, photo]);
        right(engine, once);
        (found[engine] ??= {})[when] = once.ms;
        // What is kept is written after the answer.
        await new Promise((resolve) => setTimeout(resolve, 1000));
        await fresh.close();
      }
    } finally {
      await browser.close();
    }
  }
  const browser = await visit();
  try {
    const both = await page(browser);
    for (const engine of ENGINES) right(engine, await both.evaluate(first, [engine, network, photo]));
    const times = Object.fromEntries(ENGINES.map((engine) => [engine, []]));
    for (let run = 0; run <= runs; run += 1) {
      for (const engine of ENGINES) {
        const once = await both.evaluate(again, engine);
        right(engine, once);
        if (once.dispatches === 0) throw new Error(`${engine} did nothing on the GPU`);
        found[engine].dispatches = once.dispatches;
        // The first of each warms up.
        if (run > 0) times[engine].push(once.ms);
      }
    }
    for (const engine of ENGINES) Object.assign(found[engine], { median: median(times[engine]), best: Math.min(...times[engine]), times: times[engine] });
    found.ratio = found["onnxruntime-web"].median / found.lampyris.median;
  } finally {
    await browser.close();
  }
}

const ms = (value) => value.toFixed(value < 100 ? 1 : 0);
console.log(`| network | engine | a run, median of ${runs}, ms | best | first result, cold | second visit | dispatches |`);
console.log("| --- | --- | --- | --- | --- | --- | --- |");
for (const [network, found] of Object.entries(result.networks)) {
  for (const engine of ENGINES) {
    const { median, best, cold, cached, dispatches } = found[engine];
    console.log(`| ${network} | ${engine} | ${ms(median)} | ${ms(best)} | ${ms(cold)} | ${ms(cached)} | ${dispatches} |`);
  }
  console.log(`| ${network} | | ${found.ratio.toFixed(1)} times | | | | |`);
}
for (const engine of ENGINES) {
  const { module, scripts } = result.wasm[engine];
  console.log(`${engine}: module ${module.bytes} bytes (${module.gzipped} gzipped), scripts ${scripts.bytes}`);
}
if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(result, null, 2)}\n`);
else console.log(JSON.stringify(result));
