// That the measurement of the main thread sees what a page does, and takes off what a machine does and nothing else.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { bare } from "./bare.mjs";
import { away } from "./stalls.mjs";
import { LONGEST, longest, tasks } from "./thread.mjs";

let browser;
before(async () => {
  browser = await bare();
});
after(() => browser?.close());

test("a page that keeps its main thread is found out", async () => {
  const page = await browser.page();
  const kept = () =>
    page.evaluate(async () => {
      for (const ms of [1, 1, 400, 1, 1]) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        for (const end = performance.now() + ms; performance.now() < end; );
      }
    });
  const found = longest("keeping the thread for 400 ms", await tasks(page, kept));
  assert.ok(found > 2 * LONGEST, `${found} ms`);
});

test("what the kernel does for a page counts as the page's", async () => {
  const page = await browser.page();
  const touched = () =>
    page.evaluate(async () => {
      // Turns before it, for a trace of a single task is not taken for one.
      for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 1));
      return new Uint8Array(256 << 20).fill(1).length;
    });
  const found = longest("filling 256 MiB", await tasks(page, touched));
  assert.ok(found > 2 * LONGEST, `${found} ms`);
});

test("a task is spared the stalls within it, and no more than it was charged with", () => {
  const task = { ts: 1000, dur: 20_000, tdur: 20_000 };
  assert.equal(away(task, []), 0);
  assert.equal(away(task, [[0, 900], [21_000, 40_000]]), 0);
  assert.equal(away(task, [[500, 4000], [20_000, 22_000]]), 4000);
  assert.equal(away(task, [[0, 50_000]]), 20_000);
  assert.equal(away({ ...task, tdur: 5000 }, [[2000, 12_000]]), 0, "it waited 15 ms, maybe for that");
  assert.equal(away({ ...task, tdur: 18_000 }, [[2000, 12_000]]), 8000);
});
