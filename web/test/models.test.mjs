// Models in several files, sentence encoders, handles, what is loaded again after it was given back, and each code that an error has.

import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { material, open, tell as told } from "./browser.mjs";
import { parts, shards } from "./splitting.mjs";

const withMaterial = { skip: material === undefined && "no trained models here; tests/MATERIAL.md says what belongs there" };
const FOLDER = "/material/stories260k/hf/";
const FILE = "/material/stories260k/gguf/stories260K-Q8_0.gguf";

let browser;
let page;
let made;
before(async () => {
  made = mkdtempSync(join(tmpdir(), "lampyris-models-"));
  if (material !== undefined) {
    const hf = join(material, "stories260k/hf");
    for (const [folder, left] of [["shards", undefined], ["missing", "model-00002-of-00003.safetensors"]]) {
      mkdirSync(join(made, folder));
      for (const name of readdirSync(hf)) if (name.endsWith(".json")) copyFileSync(join(hf, name), join(made, folder, name));
      for (const [name, bytes] of Object.entries(shards(readFileSync(join(hf, "model.safetensors")), 3))) {
        if (name !== left) writeFileSync(join(made, folder, name), bytes);
      }
    }
    const whole = readFileSync(join(material, "stories260k/gguf/stories260K-Q8_0.gguf"));
    for (const [name, bytes] of Object.entries(parts(whole, "stories", 3))) writeFileSync(join(made, name), bytes);
  }
  browser = await open({ made });
  page = await browser.page();
  await page.evaluate(async () => {
    window.gpu = await window.lampyris.Lampyris.create();
  });
});
after(async () => {
  await browser?.close();
  rmSync(made, { recursive: true, force: true });
});

const tell = (source, options = { cache: false }) => told(page, source, options);

test("the shards of a model and the parts of a GGUF file are the model", withMaterial, async () => {
  const [folder, file] = [await tell(FOLDER), await tell(FILE)];
  assert.ok(folder.text?.length > 20 && file.text?.length > 20, JSON.stringify([folder, file]));
  assert.deepEqual(await tell("/made/shards/"), folder);
  for (const number of [1, 2, 3]) assert.deepEqual(await tell(`/made/stories-0000${number}-of-00003.gguf`), file);
  const missing = await tell("/made/missing/");
  assert.equal(missing.code, "bad-file");
  assert.match(missing.message, /model-00002-of-00003.safetensors/);
  // Kept, they need no server.
  assert.deepEqual(await tell("/made/shards/", {}), folder);
  assert.deepEqual(await tell("/made/stories-00001-of-00003.gguf", {}), file);
  Object.assign(browser.server.manners, { down: true });
  try {
    assert.deepEqual(await tell("/made/shards/", {}), folder);
    assert.deepEqual(await tell("/made/stories-00001-of-00003.gguf", {}), file);
  } finally {
    Object.assign(browser.server.manners, { down: false });
    await page.evaluate(() => window.lampyris.Lampyris.forget());
  }
});

test("a visitor's files may be several, and handles are sources", withMaterial, async () => {
  const found = await page.evaluate(async (gguf) => {
    const file = async (address) => new File([await (await fetch(address)).blob()], address.split("/").pop());
    const names = [1, 2, 3].map((n) => `model-0000${n}-of-00003.safetensors`);
    const all = await Promise.all([...names, "model.safetensors.index.json", "config.json", "tokenizer.json"].map((name) => file(`/made/shards/${name}`)));
    const split = await Promise.all([3, 1, 2].map((n) => file(`/made/stories-0000${n}-of-00003.gguf`)));
    const home = await (await navigator.storage.getDirectory()).getDirectoryHandle("picked", { create: true });
    const put = async (folder, file) => {
      const handle = await folder.getFileHandle(file.name, { create: true });
      const writing = await handle.createWritable();
      await writing.write(file);
      await writing.close();
      return handle;
    };
    const one = await put(home, await file(gguf));
    const [sharded, apart] = [await home.getDirectoryHandle("shards", { create: true }), await home.getDirectoryHandle("parts", { create: true })];
    for (const file of all) await put(sharded, file);
    for (const file of split) await put(apart, file);
    const told = [];
    for (const source of [all, sharded, split, apart, one]) told.push(await window.tell(source));
    return told;
  }, FILE);
  const texts = found.map(({ text }) => text);
  assert.ok(texts.every((text) => text?.length > 20), JSON.stringify(found));
  assert.equal(texts[0], texts[1]);
  assert.equal(new Set(texts.slice(2)).size, 1);
});

test("sentences lie where the reference puts them", withMaterial, async () => {
  const { sentences } = JSON.parse(readFileSync(join(material, "minilm/reference.json"), "utf8"));
  const file = readFileSync(join(material, "minilm/reference.safetensors"));
  const length = Number(file.readBigUInt64LE(0));
  const { embeddings } = JSON.parse(file.subarray(8, 8 + length).toString());
  const from = file.byteOffset + 8 + length + embeddings.data_offsets[0];
  const expected = new Float32Array(file.buffer.slice(from, from + 4 * embeddings.shape[0] * embeddings.shape[1]));
  const count = 12;
  const found = await page.evaluate(async (texts) => {
    const model = await window.gpu.loadEmbedder("/material/minilm/", { cache: false });
    const vectors = await model.embed(texts);
    const dimension = model.dimension;
    model.dispose();
    return { vectors: vectors.map((vector) => Array.from(vector)), dimension, held: window.gpu.memory().gpu };
  }, sentences.slice(0, count).map(({ text }) => text));
  assert.equal(found.dimension, 384);
  assert.equal(found.vectors.length, count);
  let worst = 0;
  for (const [at, vector] of found.vectors.entries()) {
    const wanted = expected.subarray(at * 384, (at + 1) * 384);
    assert.equal(vector.length, 384);
    worst = Math.max(worst, ...vector.map((value, i) => Math.abs(value - wanted[i])));
  }
  console.log(`the largest difference of a value is ${worst}`);
  // Vectors of length one; natively the largest difference relative to the largest value is below a ten-thousandth.
  assert.ok(worst < 2e-5, String(worst));
  assert.equal(found.held, 0);
});

test("what was given back is loaded again, and a device after it", withMaterial, async () => {
  const found = await page.evaluate(async (source) => {
    const told = [];
    for (let time = 0; time < 3; time += 1) {
      const gpu = await window.lampyris.Lampyris.create();
      const model = await gpu.loadText(source, { context: 64 });
      let text = "";
      for await (const piece of model.generate("Once upon a time", { maxTokens: 20 })) text += piece;
      model.dispose();
      const gone = await window.code(() => model.generate("a").next());
      const again = await gpu.loadText(source, { context: 64 });
      for await (const piece of again.generate("Once upon a time", { maxTokens: 20 })) text += piece;
      again.dispose();
      gpu.dispose();
      told.push([text, gone]);
    }
    return told;
  }, FOLDER);
  const [[text, gone]] = found;
  assert.ok(text.length > 40 && text.slice(0, text.length / 2) === text.slice(text.length / 2), text);
  assert.equal(gone, "disposed");
  assert.deepEqual(found, [found[0], found[0], found[0]]);
});

test("a power preference reaches the browser, and a device of the page's is refused with the reason", async () => {
  const found = await page.evaluate(async () => {
    const asked = [];
    const request = navigator.gpu.requestAdapter;
    GPU.prototype.requestAdapter = async function (options) {
      asked.push(options?.powerPreference ?? null);
      return request.call(navigator.gpu, options);
    };
    for (const options of [{}, { powerPreference: "low-power" }, { powerPreference: "high-performance" }]) {
      (await window.lampyris.Lampyris.create(options)).dispose();
    }
    GPU.prototype.requestAdapter = request;
    const refused = (options) => window.lampyris.Lampyris.create(options).then(() => "none", ({ code, message }) => `${code}: ${message}`);
    return { asked, wrong: await refused({ powerPreference: "fast" }), device: await refused({ device: window.devices[0] }) };
  });
  assert.deepEqual(found.asked, [null, "low-power", "high-performance"]);
  assert.match(found.wrong, /^bad-input: .*low-power/);
  assert.match(found.device, /^bad-input: .*wgpu/);
});

/** A network whose first layer has more workgroups than a device starts in one direction. */
const WIDE = { image_size: 4096 };

test("each error has its code", withMaterial, async () => {
  const found = await page.evaluate(async ([source, small, wide]) => {
    const { Lampyris } = window.lampyris;
    const codes = {};
    const weights = { name: "model.safetensors", bytes: await (await fetch(`${small}model.safetensors`)).arrayBuffer() };
    const config = { name: "config.json", bytes: new TextEncoder().encode(JSON.stringify({ ...(await (await fetch(`${small}config.json`)).json()), ...wide })) };
    codes["unsupported-device"] = await window.code(() => window.gpu.loadVision([weights, config]));
    const request = GPU.prototype.requestAdapter;
    GPU.prototype.requestAdapter = async () => null;
    codes["no-webgpu"] = await window.code(() => Lampyris.create());
    GPU.prototype.requestAdapter = request;
    // As a browser says it of a buffer for which there is no room.
    const pop = GPUDevice.prototype.popErrorScope;
    GPUDevice.prototype.popErrorScope = async () => new GPUOutOfMemoryError("no room");
    codes["out-of-memory"] = await window.code(() => window.gpu.loadText(source, { context: 64 }));
    GPUDevice.prototype.popErrorScope = pop;
    codes["bad-file"] = await window.code(() => window.gpu.loadVision(source));
    codes.network = await window.code(() => window.gpu.loadText("http://127.0.0.1:9/"));
    codes["bad-input"] = await window.code(() => window.gpu.loadText(7));
    codes.aborted = await window.code(() => window.gpu.loadText(source, { signal: AbortSignal.abort(), cache: false }));
    // A network whose numbers are as large as they can be computes some that are none.
    const file = new Uint8Array(await (await fetch(`${source}model.safetensors`)).arrayBuffer());
    const view = new DataView(file.buffer);
    const header = Number(view.getBigUint64(0, true));
    const tensors = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + header)));
    const { data_offsets: [start, end], dtype } = tensors["model.norm.weight"];
    for (let at = start; at < end; at += 4) view.setFloat32(8 + header + at, 3e38, true);
    const beside = await Promise.all(["config.json", "tokenizer.json"].map(async (name) => ({ name, bytes: await (await fetch(source + name)).arrayBuffer() })));
    codes["bad-result"] = dtype === "F32" ? (await window.tell([{ name: "model.safetensors", bytes: file }, ...beside])).code : dtype;
    // Devices that go away as soon as they are there.
    const gpu = await Lampyris.create();
    const model = await gpu.loadText(source, { context: 64 });
    const make = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = async function (...args) {
      const device = await make.apply(this, args);
      device.destroy();
      return device;
    };
    window.devices.at(-1).destroy();
    codes["device-lost"] = await window.code(() => model.generate("Once").next());
    GPUAdapter.prototype.requestDevice = make;
    model.dispose();
    codes.disposed = await window.code(() => model.encode("a"));
    gpu.dispose();
    return codes;
  }, [FOLDER, "/material/mobilenet_tiny/mobilenet_v3_small_w025/", WIDE]);
  // A module that is not what was built.
  const fresh = await browser.page();
  const create = (kind) => fresh.evaluate((kind) => window.code(() => window.lampyris[kind].create()), kind);
  Object.assign(browser.server.manners, { only: "lampyris_bg.wasm", corrupt: 1 });
  found.internal = await create("Lampyris");
  Object.assign(browser.server.manners, { corrupt: undefined });
  for (const [code, answer] of Object.entries(found)) assert.equal(answer, code, JSON.stringify(found));
  const all = readFileSync(join(import.meta.dirname, "../js/errors.ts"), "utf8").matchAll(/^  \| "([a-z-]+)"/gm);
  assert.deepEqual(Object.keys(found).sort(), Array.from(all, ([, code]) => code).sort(), "every code was seen");

  // Module and worker that are not to be had; and what failed is tried again.
  Object.assign(browser.server.manners, { down: true });
  assert.equal(await create("Lampyris"), "network");
  Object.assign(browser.server.manners, { only: "worker.js" });
  assert.equal(await create("LampyrisWorker"), "network");
  Object.assign(browser.server.manners, { down: false, only: "" });
  const refused = (module, kind = "Lampyris") =>
    fresh.evaluate(([kind, module]) => window.lampyris[kind].create({ module }).then(() => "none", ({ code, message }) => `${code}: ${message}`), [kind, module]);
  assert.match(await refused("/pkg/none.wasm"), /^network: http.*\/pkg\/none\.wasm did not come \(404\); serve lampyris_bg\.wasm beside/);
  assert.match(await refused("/test/page.html"), /^network: .*page\.html did not come \(an HTML page/);
  for (const wrong of [7, {}, "http://"]) assert.match(await refused(wrong), /^bad-input: /);
  assert.deepEqual([await create("Lampyris"), await create("LampyrisWorker")], ["none", "none"]);
  // To a worker an address means what it means to the page, in every form.
  const beside = await fresh.evaluate(async () => {
    const { LampyrisWorker } = window.lampyris;
    const told = [];
    for (const module of ["../pkg/lampyris_bg.wasm", new URL("/pkg/lampyris_bg.wasm", location.href)]) {
      told.push(await window.code(async () => (await LampyrisWorker.create({ module })).dispose()));
    }
    const worker = await LampyrisWorker.create();
    told.push(await window.code(() => worker.loadText("http://")));
    const eyes = await worker.loadVision("/material/mobilenet_tiny/mobilenet_v3_small_w025/", { cache: false });
    told.push(await window.code(() => eyes.classify(new Image())));
    worker.dispose();
    const Real = window.Worker;
    window.Worker = function () {
      throw new DOMException("no script of another origin", "SecurityError");
    };
    told.push(await window.code(() => LampyrisWorker.create()));
    window.Worker = Real;
    return told;
  });
  assert.deepEqual(beside, ["none", "none", "bad-input", "bad-input", "network"]);
  assert.match(await refused("none.wasm", "LampyrisWorker"), /^network: .*\/test\/none\.wasm did not come \(404\)/);
  await fresh.close();
});
