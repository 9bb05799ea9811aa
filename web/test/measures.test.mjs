// What the package promises in numbers: how long it keeps the main thread at most, and how large its heap grows with a large model.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { bare } from "./bare.mjs";
import { material } from "./browser.mjs";
import { zeros } from "./splitting.mjs";
import { LONGEST, longest, tasks, twice } from "./thread.mjs";

const withMaterial = { skip: material === undefined && "no trained models here; tests/MATERIAL.md says what belongs there" };

/** Bytes that the heap may have more with a model than without. */
const HEAP = 96 << 20;

let browser;
let page;
before(async () => {
  browser = await bare({ bundled: resolve(import.meta.dirname, "../../models/bundled") });
  page = await browser.page();
  await page.evaluate(async () => {
    window.gpu = await window.lampyris.Lampyris.create();
  });
});
after(() => browser?.close());

const classified = async (source) => {
  window.model = await window.gpu.loadVision(source, { cache: false });
};
const looked = async (lose) => {
  const picture = new ImageData(224, 224);
  picture.data.fill(200);
  for (let time = 0; time < 4; time += 1) {
    if (lose && time === 2) window.devices.at(-1).destroy();
    await window.model.classify(picture);
  }
};
/** Loading that keeps what it fetched, and pictures of a camera's size that must be drawn to be read. */
const kept = async (source) => {
  await window.lampyris.Lampyris.forget();
  window.model = await window.gpu.loadVision(source);
};
const photographed = async (lose) => {
  const canvas = new OffscreenCanvas(640, 480);
  const context = canvas.getContext("2d");
  for (let time = 0; time < 4; time += 1) {
    context.fillStyle = `rgb(${60 * time} 90 120)`;
    context.fillRect(0, 0, 640, 480);
    const frame = canvas.transferToImageBitmap();
    // The page's own drawing is not the package's: a task of its own, as a camera's is.
    await new Promise((next) => setTimeout(next));
    if (lose && time === 2) window.devices.at(-1).destroy();
    await window.model.classify(frame);
    frame.close();
  }
};
const opened = async (source) => {
  window.model = await window.gpu.loadText(source, { cache: false });
};
const told = async (lose) => {
  let pieces = 0;
  for await (const _ of window.model.generate("Once upon a time", { maxTokens: 48 })) {
    pieces += 1;
    if (lose && pieces === 12) window.devices.at(-1).destroy();
  }
};

const CASES = [
  ["MobileNetV2", "/material/mobilenet_v2/", classified, looked],
  ["MobileNetV2, kept, with pictures of 640 x 480", "/material/mobilenet_v2/", kept, photographed],
  ["the bundled classifier", "/bundled/sketches/", classified, looked],
  ["the bundled storyteller", "/bundled/storyteller/storyteller.gguf", opened, told],
];
for (const [name, source, load, use] of CASES) {
  test(`the main thread is never kept for more than ${LONGEST} ms of processor time by ${name}`, source.startsWith("/material") ? withMaterial : {}, async () => {
    const reopened = () => page.evaluate(() => window.gpu.adapter().timesReopened);
    const [loading, using, again] = await twice(async () => {
      const loading = longest(`loading ${name}`, await tasks(page, () => page.evaluate(load, source)));
      const using = longest(`using ${name}`, await tasks(page, () => page.evaluate(use, false)));
      const before = await reopened();
      const again = longest(`using ${name}, whose device is lost`, await tasks(page, () => page.evaluate(use, true)));
      assert.equal(await reopened(), before + 1);
      await page.evaluate(() => window.model.dispose());
      return [loading, using, again];
    });
    assert.ok(using <= LONGEST, `using ${name}: ${using} ms`);
    assert.ok(loading <= LONGEST, `loading ${name}: ${loading} ms`);
    assert.ok(again <= LONGEST, `on another device with ${name}: ${again} ms`);
  });
}

test(`the main thread is never kept for more than ${LONGEST} ms of processor time by the start of the module and of the device`, async () => {
  const [starting] = await twice(async () => {
    const fresh = await browser.page();
    const start = () => window.lampyris.Lampyris.create().then((gpu) => gpu.adapter().software);
    const traced = await tasks(fresh, () => fresh.evaluate(start));
    assert.equal(traced.result, true);
    const starting = longest("`create` on a fresh page", traced);
    await fresh.close();
    return [starting];
  });
  assert.ok(starting <= LONGEST, `${starting} ms`);
});

test("the heap holds no model", withMaterial, async () => {
  const vocabulary = readFileSync(join(material, "stories260k/gguf/stories260K-Q8_0.gguf"));
  browser.server.made.set("/zeros.gguf", zeros(vocabulary, 17));
  browser.server.made.set("/small.gguf", zeros(vocabulary, 1));
  const fresh = await browser.page();
  const found = await fresh.evaluate(async () => {
    const gpu = await window.lampyris.Lampyris.create();
    const grown = [];
    // The small one has the same tokenizer.
    for (const name of ["small", "zeros"]) {
      const model = await gpu.loadText(`/${name}.gguf`, { context: 64, cache: false });
      let pieces = 0;
      for await (const _ of model.generate("Once", { maxTokens: 2 })) pieces += 1;
      grown.push({ ...gpu.memory(), pieces });
      model.dispose();
    }
    return grown;
  });
  const [small, large] = found;
  const { size } = browser.server.made.get("/zeros.gguf");
  console.log(`a model of ${(size / 1e6).toFixed(0)} MB: ${(large.gpu / 1e6).toFixed(0)} MB on the GPU, a heap of ${(large.heap / (1 << 20)).toFixed(0)} MiB, ${(small.heap / (1 << 20)).toFixed(0)} MiB with one of a layer`);
  assert.ok(size > 2.5e8 && large.gpu > 0.9 * size, JSON.stringify({ size, ...large }));
  assert.ok(large.heap < HEAP, `${large.heap} bytes of heap`);
});
