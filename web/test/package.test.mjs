// The package in a real browser: pictures named and texts continued as the reference does, every kernel as its twin.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { material, open } from "./browser.mjs";
import { longest, tasks } from "./thread.mjs";

let browser;
let page;
before(async () => {
  browser = await open({ bundled: resolve(import.meta.dirname, "../../models/bundled") });
  page = await browser.page();
  await page.evaluate(async () => {
    window.gpu = await window.lampyris.Lampyris.create();
  });
});
after(() => browser?.close());

const withMaterial = { skip: material === undefined && "no trained models here; tests/MATERIAL.md says what belongs there" };
const json = (...path) => JSON.parse(readFileSync(join(material, ...path), "utf8"));

test("the adapter is the software one, and says so", async () => {
  const adapter = await page.evaluate(() => window.gpu.adapter());
  console.log(JSON.stringify(adapter));
  assert.equal(adapter.software, true, JSON.stringify(adapter));
  assert.equal(adapter.f16, false);
});

test("a MobileNetV2 names photos as the reference does", withMaterial, async () => {
  const { images } = json("mobilenet_v2", "reference.json");
  const sure = images.filter((image) => image.margin > 1).slice(0, 3);
  const found = await page.evaluate(async (files) => {
    const shares = [];
    const model = await window.gpu.loadVision("/material/mobilenet_v2/", { onProgress: (share) => shares.push(share) });
    const answers = [];
    for (const file of files) answers.push(await model.classify(await window.picture(`/material/images/${file}`)));
    const begun = performance.now();
    await model.classify(await window.picture(`/material/images/${files[0]}`));
    const ms = performance.now() - begun;
    model.dispose();
    return { answers, shares, ms };
  }, sure.map(({ file }) => file));
  console.log(`a picture takes ${found.ms.toFixed(0)} ms`);
  assert.deepEqual(found.answers.map(([top]) => top.index), sure.map(({ top5 }) => top5[0].index));
  for (const [at, [top]] of found.answers.entries()) assert.ok(Math.abs(top.probability - sure[at].top5[0].prob) < 0.05);
  assert.equal(found.shares.at(-1), 1);
});

test("pictures of every kind are seen alike", async () => {
  const found = await page.evaluate(async () => {
    const model = await window.gpu.loadVision("/bundled/sketches/", { cache: false });
    const image = new Image();
    image.src = "/bundled/sketches/samples/fish.png";
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const off = new OffscreenCanvas(canvas.width, canvas.height);
    off.getContext("2d").drawImage(image, 0, 0);
    const frame = new VideoFrame(canvas, { timestamp: 0 });
    const video = document.createElement("video");
    video.muted = true;
    video.srcObject = canvas.captureStream();
    const playing = video.play();
    context.drawImage(image, 0, 0);
    await playing;
    const pictures = { image, canvas, off, frame, video, bitmap: await createImageBitmap(image), data: context.getImageData(0, 0, canvas.width, canvas.height) };
    const seen = {};
    for (const [kind, picture] of Object.entries(pictures)) seen[kind] = (await model.classify(picture, { top: 1 }))[0];
    const early = await window.code(() => model.classify(new Image()));
    frame.close();
    for (const track of video.srcObject.getTracks()) track.stop();
    model.dispose();
    return { seen, early };
  });
  for (const [kind, { label, probability }] of Object.entries(found.seen)) {
    assert.equal(label, "fish", kind);
    // A video's colours are those of its codec.
    if (kind !== "video") assert.equal(probability, found.seen.data.probability, kind);
  }
  assert.equal(found.early, "bad-input");
});

test("stories260K continues as the reference does, token for token", withMaterial, async () => {
  const { prompts, models } = json("stories260k", "reference.json");
  for (const [name, source] of [["hf", "/material/stories260k/hf/"], ["Q8_0", "/material/stories260k/gguf/stories260K-Q8_0.gguf"]]) {
    const { greedy } = models[name];
    const found = await page.evaluate(
      async ([source, prompts]) => {
        const model = await window.gpu.loadText(source, { context: 256 });
        const told = [];
        for (const prompt of prompts) {
          let text = "";
          for await (const piece of model.generate(prompt, { maxTokens: 100 })) text += piece;
          told.push(text);
        }
        model.dispose();
        return told;
      },
      [source, prompts.slice(0, 3).map(({ text }) => text)],
    );
    for (const [at, text] of found.entries()) {
      // The reference's text is that of the whole sequence, prompt included.
      const whole = greedy[at].text;
      assert.equal(`${prompts[at].text}${text}`.trim(), whole.trim(), `${name}, prompt ${at}`);
    }
  }
});

test("every kernel agrees with its twin in the browser", async () => {
  const traced = await tasks(page, () => page.evaluate(() => window.gpu.doctor()));
  const checks = traced.result;
  // No limit holds for it: the twins compute there. The demonstration has them in a worker.
  longest("`doctor()` on the page's own thread", traced);
  const failed = checks.filter(({ passed }) => !passed);
  const kernels = new Set(checks.map(({ kernel }) => kernel));
  console.log(`${checks.length} checks of ${kernels.size} kernels`);
  assert.deepEqual(failed, []);
  assert.ok(kernels.size > 30, `${kernels.size} kernels`);
});

test("one kernel is checked by its whole name, and an unknown one refused", async () => {
  const found = await page.evaluate(async () => {
    const checks = await window.gpu.doctor({ only: "softmax" });
    return { kernels: checks.map(({ kernel }) => kernel), code: await window.code(() => window.gpu.doctor({ only: "softm" })) };
  });
  assert.ok(found.kernels.length > 0);
  assert.deepEqual(new Set(found.kernels), new Set(["softmax"]));
  assert.equal(found.code, "bad-input");
});

const full = { skip: process.env.LAMPYRIS_TIER !== "full" && "every case is the full tier's: `cargo xtask web --test --full`" };
test("every case of every kernel agrees with its twin in the browser, in every variant that the adapter can run", full, async () => {
  const names = new Set((await page.evaluate(() => window.gpu.doctor())).map(({ kernel }) => kernel));
  let all = 0;
  const failed = [];
  for (const name of names) {
    const begun = performance.now();
    const checks = await page.evaluate((only) => window.gpu.doctor({ full: true, only }), name);
    console.log(`${name}: ${checks.length} checks in ${((performance.now() - begun) / 1000).toFixed(0)} s`);
    failed.push(...checks.filter(({ passed }) => !passed));
    assert.deepEqual(new Set(checks.map(({ kernel }) => kernel)), new Set([name]));
    all += checks.length;
  }
  console.log(`${all} checks of ${names.size} kernels`);
  assert.deepEqual(failed, []);
});
