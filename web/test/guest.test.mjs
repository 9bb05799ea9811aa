// A Rust program in a browser that lends its device (guest.rs): what its textures give, and how many dispatches the browser itself sees for them.

import assert from "node:assert/strict";
import { resolve } from "node:path";
import { after, before, test } from "node:test";
import { open } from "./browser.mjs";

const [WIDTH, HEIGHT] = [150, 97];

let browser;
let page;
before(async () => {
  const here = import.meta.dirname;
  browser = await open({ glue: resolve(here, "../glue"), bundled: resolve(here, "../../models/bundled") });
  page = await browser.page();
  await page.evaluate(async ([width, height]) => {
    window.dispatches = 0;
    for (const name of ["dispatchWorkgroups", "dispatchWorkgroupsIndirect"]) {
      const dispatch = GPUComputePassEncoder.prototype[name];
      GPUComputePassEncoder.prototype[name] = function (...args) {
        window.dispatches += 1;
        return dispatch.apply(this, args);
      };
    }
    const glue = await import("/glue/guest.js");
    await glue.default();
    const file = async (name) => new Uint8Array(await (await fetch(`/bundled/sketches/${name}`)).arrayBuffer());
    window.host = await glue.Host.open(await file("model.safetensors"), await file("config.json"), await file("preprocessor_config.json"));
    // The logits that a call gives, and the dispatches of it.
    window.seen = async (way, ...args) => {
      const before = window.dispatches;
      const logits = [...(await window.host[way](...args))];
      return { logits, dispatches: window.dispatches - before };
    };
    // Every level of each colour, no smooth place, and alpha that must not matter.
    window.colours = new Uint8Array(4 * width * height).map((_, at) => {
      const pixel = at >> 2;
      return [pixel * 7, pixel * 13 + pixel / 150, pixel / 3, pixel * 29][at & 3];
    });
    window.luma = new Uint8Array(width * height).map((_, at) => at * 7 + at / 150);
    window.gray = new Uint8Array(4 * width * height).map((_, at) => window.luma[at >> 2]);
  }, [WIDTH, HEIGHT]);
});
after(() => browser?.close());

test("a part that moves is looked at in each frame, with what the first one has made ready", async () => {
  const places = [[0, 0], [13, 5], [60, 17]].map(([x, y]) => [x, y, 90, 80]);
  const { found, alone } = await page.evaluate(async ([size, places]) => ({
    found: [...(await window.host.parts(window.colours, size, places.flat()))],
    alone: (await Promise.all(places.map((part) => window.host.part_of_bytes(window.colours, size, part)))).map((it) => [...it]),
  }), [[WIDTH, HEIGHT], places]);
  assert.notDeepEqual(alone[0], alone[1]);
  assert.deepEqual(found, alone.flat());
});

test("a texture takes one dispatch less than its bytes, and gives what they give", async () => {
  const formats = ["rgba8unorm", "rgba8unorm-srgb", "bgra8unorm", "bgra8unorm-srgb", "rgba16float"];
  const { colours, textures, gray, planes } = await page.evaluate(async ([width, height, formats]) => {
    const colours = await window.seen("bytes", window.colours, width, height);
    const textures = [];
    for (const format of formats) textures.push(await window.seen("texture", window.colours, [width, height], format));
    const gray = await window.seen("bytes", window.gray, width, height);
    return { colours, textures, gray, planes: await window.seen("planes", window.luma, width, height) };
  }, [WIDTH, HEIGHT, formats]);
  assert.ok(colours.dispatches > 30, `${colours.dispatches} dispatches are no MobileNet`);
  assert.notDeepEqual(colours.logits, gray.logits);
  const bytes = formats.slice(0, 4).map((kind, at) => [kind, textures[at], colours]);
  for (const [kind, found, expected] of [...bytes, ["two planes", planes, gray]]) {
    assert.equal(found.dispatches, expected.dispatches - 1, kind);
    assert.deepEqual(found.logits, expected.logits, kind);
  }
  // A level in 16 bits is not to the last bit the one of a byte.
  const largest = Math.max(...colours.logits.map(Math.abs));
  const apart = Math.max(...textures[4].logits.map((logit, at) => Math.abs(logit - colours.logits[at]))) / largest;
  assert.ok(apart < 5e-3, `rgba16float: ${apart}`);
});

test("a texture that is shrunk more than 54 times takes the two dispatches that bytes take", async () => {
  const [bytes, near, far] = await page.evaluate(async ([width, height]) => [
    await window.seen("bytes", window.colours, width, height),
    await window.seen("blank", 50 * 64),
    await window.seen("blank", 64 * 64),
  ], [WIDTH, HEIGHT]);
  assert.equal(near.dispatches, bytes.dispatches - 1, "shrunk 50 times");
  assert.equal(far.dispatches, bytes.dispatches, "shrunk 64 times");
  assert.deepEqual(near.logits, far.logits, "black is black");
});
