// Guests that are ticked in a browser, on a device that a Rust program lends (frames.rs): in parts that a budget pays for they give what they
// give alone, and go on on another device where theirs is lost.

import assert from "node:assert/strict";
import { resolve } from "node:path";
import { after, before, test } from "node:test";
import { open } from "./browser.mjs";

const MOST = 16;
/** Microseconds of a frame: where nothing was measured, steps are taken to need what they need on a GPU. */
const BUDGETS = { guessed: 150, measured: 2000 };
/** Frames after which something is taken to be stuck. */
const STUCK = 20_000;

let browser;
let page;
before(async () => {
  const here = import.meta.dirname;
  browser = await open({ glue: resolve(here, "../glue"), bundled: resolve(here, "../../models/bundled") });
  page = await browser.page();
  await page.evaluate(async (stuck) => {
    const { default: begin, Frames } = await import("/glue/guest.js");
    await begin();
    const names = ["sketches/model.safetensors", "sketches/config.json", "sketches/preprocessor_config.json", "storyteller/storyteller.gguf"];
    const files = names.map(async (name) => new Uint8Array(await (await fetch(`/bundled/${name}`)).arrayBuffer()));
    // Draws one frame after another as a page does until one says that it was the last, or all that were asked for; gives how many.
    window.draw = async (frame, most = stuck) => {
      for (let drawn = 1; drawn <= most; drawn++) {
        if (!frame()) return drawn;
        await new Promise(requestAnimationFrame);
      }
      if (most === stuck) throw new Error(`${most} frames were not enough`);
      return most;
    };
    window.program = async (timestamps) => {
      const frames = await Frames.open(timestamps, ...(await Promise.all(files)));
      const loading = await window.draw(() => frames.load());
      return { frames, loading };
    };
    window.found = (frames) => {
      const { pictures, parts, told, lost } = frames.counts();
      return { seen: [...frames.seen()], tokens: [...frames.told()], pictures, parts, told, lost };
    };
  }, STUCK);
});
after(() => browser?.close());

const offered = (feature) => page.evaluate(async (feature) => (await navigator.gpu.requestAdapter()).features.has(feature), feature);

for (const timestamps of [false, true]) {
  test(`guests that are ticked give what they give alone, ${timestamps ? "with timestamps" : "on a device without features"}`, async (t) => {
    if (timestamps && !(await offered("timestamp-query"))) return t.skip("the adapter has no timestamps");
    const run = await page.evaluate(async ([timestamps, most, micros]) => {
      const { frames, loading } = await window.program(timestamps);
      const alone = { logits: [...(await frames.classify())], tokens: [...(await frames.generate(most + 1))] };
      await frames.begin(most);
      // To the end of the story, and then to that of the last picture.
      const drawn = await window.draw(() => frames.draw(micros, frames.told().length < alone.tokens.length - 1));
      const found = window.found(frames);
      return { told: frames.timestamps(), loading, alone, drawn, found, next: await frames.step() };
    }, [timestamps, MOST, timestamps ? BUDGETS.measured : BUDGETS.guessed]);
    t.diagnostic(JSON.stringify({ ...run, alone: undefined, found: { ...run.found, seen: undefined } }));
    assert.equal(run.told, timestamps);
    assert.ok(run.loading > 20, `the models were loaded in ${run.loading} frames`);
    const { alone, found } = run;
    assert.deepEqual(found.tokens, alone.tokens.slice(0, -1));
    assert.equal(run.next, alone.tokens.at(-1), "the recorded token");
    assert.ok(found.pictures >= 2, `${found.pictures} pictures were named`);
    assert.deepEqual(found.seen, Array(found.pictures).fill(alone.logits).flat());
    // What is not cut begins and ends in the frame that looks, and a token in one of its own.
    assert.ok(found.parts >= found.pictures, `${found.pictures} pictures in ${found.parts} more parts`);
    assert.ok(found.told > MOST, `${MOST} tokens in ${found.told} ticks`);
    assert.equal(found.lost, 0);
  });
}

test("a story goes on with the same tokens where the device is destroyed and replaced, and so do the eyes", async (t) => {
  const { alone, lost, found } = await page.evaluate(async ([most, micros]) => {
    const { frames } = await window.program(false);
    const alone = { logits: [...(await frames.classify())], tokens: [...(await frames.generate(most))] };
    await frames.begin(most);
    const half = alone.tokens.length - most / 2;
    await window.draw(() => (frames.draw(micros, true), frames.told().length < half));
    frames.destroy();
    await window.draw(() => frames.draw(micros, true), 5);
    const lost = window.found(frames);
    await frames.replace();
    await frames.ready();
    await window.draw(() => frames.draw(micros, frames.told().length < alone.tokens.length));
    return { alone, lost, found: window.found(frames) };
  }, [MOST, BUDGETS.guessed]);
  t.diagnostic(JSON.stringify([lost, found].map((found) => ({ ...found, seen: undefined }))));
  assert.ok(lost.lost > 0 && lost.tokens.length < alone.tokens.length, `${lost.tokens.length} tokens when the device was lost`);
  assert.deepEqual(found.tokens, alone.tokens);
  assert.ok(found.pictures > lost.pictures, `${found.pictures} pictures, of which ${lost.pictures} were named before`);
  assert.deepEqual(found.seen, Array(found.pictures).fill(alone.logits).flat());
});

test("a story that is asked for while another kind of choice is being prepared is told as it asks", async () => {
  const { alone, told } = await page.evaluate(async ([most, micros]) => {
    const { frames } = await window.program(false);
    const alone = [...(await frames.generate(most))];
    await frames.begin(most);
    // What draws needs a pipeline more, for which a browser takes longer than a frame.
    frames.ask(most, 5);
    await window.draw(() => frames.draw(micros, false), 1);
    frames.ask(most);
    await window.draw(() => frames.draw(micros, false));
    return { alone, told: [...frames.told()] };
  }, [MOST, BUDGETS.guessed]);
  assert.deepEqual(told, alone);
});
