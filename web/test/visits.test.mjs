// Visits to the demonstration under other conditions: without a network, with a new version, without WebGPU, and pages without a bundler.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { open } from "./browser.mjs";
import { serve } from "./server.mjs";
import { POLICY, SEVEN, says, scribble, shoot, site, tab } from "./site.mjs";

/** A page as somebody without a bundler writes it, and its script: the bundled models on the page itself and in a worker. */
const PLAIN = {
  "index.html": `<!doctype html><title>plain</title><script type="module" src="plain.js"></script><p id="says">working</p><pre id="found"></pre>`,
  "plain.js": `
    import { Lampyris, LampyrisWorker } from "/pkg/lampyris.js";

    const says = document.getElementById("says");
    try {
      const found = { drawings: {}, stories: {} };
      for (const [where, kind] of [["page", Lampyris], ["worker", LampyrisWorker]]) {
        const lampyris = await kind.create();
        const eyes = await lampyris.loadVision("/bundled/sketches/");
        found.drawings[where] = [];
        for (const name of ["fish", "house", "7"]) {
          const drawing = await createImageBitmap(await (await fetch("/bundled/sketches/samples/" + name + ".png")).blob());
          found.drawings[where].push(await eyes.classify(drawing, { top: 32 }));
        }
        const teller = await lampyris.loadText("/bundled/storyteller/storyteller.gguf");
        let story = "";
        for await (const piece of teller.generate("Once upon a time", { maxTokens: 60 })) story += piece;
        found.stories[where] = story;
        lampyris.dispose();
      }
      document.getElementById("found").textContent = JSON.stringify(found);
      says.textContent = "done";
    } catch (error) {
      says.textContent = String(error);
    }
  `,
};

const kept = (page) => page.evaluate(async () => (await caches.keys()).filter((name) => name.startsWith("lampyris ")));
const versions = (names) => names.map((name) => name.split(" ").at(-1));

let browser;
before(async () => {
  browser = await site();
});
after(() => browser?.close());

test("a page that could not be kept says so", async () => {
  const model = join(browser.made, "models/storyteller/storyteller.gguf");
  renameSync(model, `${model}.away`);
  const { page } = await browser.visit();
  await says(page, "#offline", "This page could not be kept for use without a network");
  assert.deepEqual(await kept(page), []);
  renameSync(`${model}.away`, model);
  await page.close();
});

test("after one visit everything bundled works without a server", async () => {
  const { page, wrong } = await browser.visit();
  await says(page, "#offline", "works without a network");
  try {
    browser.server.manners.down = true;
    browser.server.log.length = 0;
    await page.context().setOffline(true);
    await page.reload();
    await says(page, "#offline", "No network");
    await page.goto(`${browser.server.at}/made/index.html`);
    await says(page, "#offline", "No network");
    await scribble(page, SEVEN);
    await says(page, "#draw-says", /^This is: 7$/);
    await page.locator("#draw summary").click();
    await says(page, "#draw-known", /umbrella/);
    await tab(page, "Write");
    await page.selectOption("#length", "500");
    await page.click("#tell");
    await says(page, "#story-text", /^Once upon a time there was .{40}/s);
    await page.click("#stop");
    await page.setInputFiles("#text-files", resolve(import.meta.dirname, "../../models/bundled/storyteller/storyteller.gguf"));
    await says(page, "#text-name", /^storyteller\.gguf, .*loaded in/);
    // Whether there is a newer service worker is asked by the browser itself.
    assert.deepEqual(browser.server.log.filter(({ path }) => !path.endsWith("/offline.js")), [], "the server was asked for nothing");
    assert.deepEqual(wrong, []);
  } finally {
    await page.context().setOffline(false);
    browser.server.manners.down = false;
  }
  await page.close();
});

test("a page that is open when a new version comes keeps its own, and after it nothing of that stays", async () => {
  const { page, wrong } = await browser.visit();
  await says(page, "#offline", "works without a network");
  const [old, ...others] = versions(await kept(page));
  assert.deepEqual(others, []);
  /** A model in a worker, whose script is fetched only then; and one on the page. */
  const used = async (page) => {
    await tab(page, "Draw");
    await scribble(page, SEVEN);
    await says(page, "#draw-says", /^This is: 7$/);
    await tab(page, "Write");
    await page.setInputFiles("#text-files", resolve(import.meta.dirname, "../../models/bundled/storyteller/storyteller.gguf"));
    await says(page, "#text-name", /^storyteller\.gguf, .*loaded in/);
    await page.selectOption("#length", "60");
    await page.click("#tell");
    await says(page, "#write-time", /tokens a second/);
    assert.match(await page.textContent("#story-text"), /^Once upon a time there was .{40}/s);
  };

  const gone = browser.deploy();
  const script = gone.find((name) => /^worker-.*\.js$/.test(name));
  assert.equal((await fetch(`${browser.server.at}/made/assets/${script}`)).status, 404, "the server has the old files no more");
  await page.evaluate(async () => void (await (await navigator.serviceWorker.getRegistration()).update()));
  await says(page, "#offline", "A new version of this page is ready.");
  assert.deepEqual(versions(await kept(page)), [old, "next"]);
  browser.server.log.length = 0;
  await used(page);
  // As long as one page is of the old version, others are, and are told so.
  const { page: second } = await browser.visit();
  await says(second, "header", "Nothing leaves this device.");
  await says(second, "#offline", "A new version of this page is ready.");
  await page.reload();
  await says(page, "header", "Nothing leaves this device.");
  await used(page);
  const asked = browser.server.log.map(({ path }) => path).filter((path) => !path.endsWith("/offline.js"));
  assert.deepEqual(asked, [], "of an old page nothing is asked of the server");
  assert.deepEqual(wrong, []);

  // From outside of the pages it is seen when the last of them is gone.
  const outside = await browser.page("/test/native.json");
  await page.close();
  await outside.waitForTimeout(1000);
  assert.deepEqual(versions(await kept(outside)), [old, "next"], "the second page still has its files");
  await second.close();
  for (let time = 0; time < 300 && (await kept(outside)).length > 1; time += 1) await outside.waitForTimeout(100);
  assert.deepEqual(versions(await kept(outside)), ["next"]);
  await outside.close();
  const fresh = await browser.visit();
  await says(fresh.page, "header", "Nothing at all leaves it.");
  await says(fresh.page, "#offline", "works without a network");
  await used(fresh.page);
  assert.deepEqual(fresh.wrong, []);
  await fresh.page.close();
});

test("a browser without WebGPU is told so, in every tab, and nothing pretends", async () => {
  const without = await site({ webgpu: false });
  try {
    const { page, wrong } = await without.visit();
    await says(page, "#chip-says", "No WebGPU");
    await says(page, "#notice", /no WebGPU.*Chrome and Edge from 113, Safari from 26 and Firefox from 141/);
    await scribble(page, SEVEN);
    await says(page, "#draw-says", /no WebGPU/);
    await tab(page, "Write");
    await page.click("#tell");
    await says(page, "#write-time", /no WebGPU/);
    assert.equal(await page.isEnabled("#tell"), true);
    await tab(page, "This device");
    await says(page, "#facts-empty", /no WebGPU/);
    assert.equal(await page.isEnabled("#examine"), false);
    assert.deepEqual(wrong, []);
    await shoot(page, "no-webgpu");
  } finally {
    await without.close();
  }
});

test("a page without a bundler takes the package from a folder, under the policy of the README, here and in a worker", async () => {
  const folder = mkdtempSync(join(tmpdir(), "lampyris-plain-"));
  for (const [name, text] of Object.entries(PLAIN)) writeFileSync(join(folder, name), text);
  const plain = await open({ plain: folder, bundled: resolve(import.meta.dirname, "../../models/bundled") });
  plain.server.manners.headers = { "content-security-policy": POLICY };
  try {
    const page = await plain.page("/plain/");
    const native = JSON.parse(readFileSync(join(import.meta.dirname, "native.json"), "utf8"));
    await says(page, "#says", "done");
    const { drawings, stories } = JSON.parse(await page.textContent("#found"));
    for (const [where, answers] of Object.entries(drawings)) {
      for (const [at, { label, top }] of native.drawings.entries()) {
        assert.equal(answers[at][0].label, label, where);
        for (const [name, probability] of top) {
          const found = answers[at].find((one) => one.label === name)?.probability ?? 0;
          // As far as single adapters lie apart natively, whose bound tests/text/bundled.rs has for the logits.
          assert.ok(Math.abs(found - probability) < 1e-3, `${where}: ${name} ${found}, natively ${probability}`);
        }
      }
    }
    for (const [where, story] of Object.entries(stories)) assert.equal(story, native.story.text, where);
    assert.deepEqual(Object.keys({ ...drawings, ...stories }), ["page", "worker"]);
  } finally {
    await plain.close();
    rmSync(folder, { recursive: true, force: true });
  }
});

test("models come from another origin that allows it, and are refused in one sentence where it does not", async () => {
  const bundled = resolve(import.meta.dirname, "../../models/bundled");
  const here = await open();
  const there = await serve({ bundled });
  try {
    const page = await here.page();
    const load = () =>
      page.evaluate(async (at) => {
        window.gpu ??= await window.lampyris.Lampyris.create();
        const model = await window.gpu.loadVision(`${at}/bundled/sketches/`, { cache: false }).catch(({ code, message }) => ({ code, message }));
        if (!("classify" in model)) return model;
        const [best] = await model.classify(new ImageData(64, 64));
        model.dispose();
        return typeof best.label;
      }, there.at);
    const allowed = { "access-control-allow-origin": here.server.at };
    for (const headers of [allowed, { ...allowed, "access-control-expose-headers": "Content-Range" }]) {
      there.manners.headers = headers;
      there.log.length = 0;
      assert.equal(await load(), "string");
      // Without the header the size costs a question more.
      assert.equal(there.log.some(({ method }) => method === "HEAD"), headers === allowed);
      assert.ok(there.log.every(({ method }) => method !== "OPTIONS"), "a range is no reason to ask beforehand");
    }
    there.manners.headers = {};
    const refused = await load();
    assert.equal(refused.code, "network", JSON.stringify(refused));
    assert.ok(refused.message.length < 200, refused.message);
  } finally {
    await here.close();
    await there.close();
  }
});
