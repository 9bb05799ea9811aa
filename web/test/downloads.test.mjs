// Where models come from: servers with and without ranges, that break off or send rubbish, files, bytes, and what the browser kept.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { material, open, tell as told } from "./browser.mjs";

const withMaterial = { skip: material === undefined && "no trained models here; tests/MATERIAL.md says what belongs there" };
const MODEL = "/material/stories260k/gguf/stories260K-Q8_0.gguf";
const FOLDER = "/material/stories260k/hf/";

let browser;
let page;
before(async () => {
  browser = await open();
  page = await browser.page();
  await page.evaluate(async () => {
    window.gpu = await window.lampyris.Lampyris.create();
  });
});
after(() => browser?.close());
beforeEach(async () => {
  Object.assign(browser.server.manners, { ranges: true, cutAfter: undefined, corrupt: undefined, down: false, only: "" });
  browser.server.log.length = 0;
  await page.evaluate(() => window.lampyris.Lampyris.forget());
});

const tell = (source, options) => told(page, source, options);

/** What the reference continues with. */
const expected = () => {
  const { models } = JSON.parse(readFileSync(join(material, "stories260k/reference.json"), "utf8"));
  return models.Q8_0.greedy[0].text;
};

test("a server with ranges is asked for ranges, one without is read whole, and both give the same", withMaterial, async () => {
  const one = await tell(MODEL, { cache: false });
  const asked = browser.server.log.filter(({ path }) => path === MODEL);
  assert.ok(asked.length > 0 && asked.every(({ range }) => range?.startsWith("bytes=")), JSON.stringify(asked));
  assert.ok(expected().includes(one.text.trim()) && one.text.length > 20, JSON.stringify(one));
  browser.server.manners.ranges = false;
  assert.deepEqual(await tell(MODEL, { cache: false }), one);
  const folder = await tell(FOLDER, { cache: false });
  browser.server.manners.ranges = true;
  assert.deepEqual(await tell(FOLDER, { cache: false }), folder);
});

test("the second visit needs no network", withMaterial, async () => {
  for (const source of [MODEL, FOLDER]) {
    for (const ranges of [true, false]) {
      await page.evaluate(() => window.lampyris.Lampyris.forget());
      Object.assign(browser.server.manners, { ranges, down: false });
      const first = await tell(source);
      assert.ok(first.text?.length > 20, JSON.stringify(first));
      browser.server.manners.down = true;
      browser.server.log.length = 0;
      assert.deepEqual(await tell(source), first);
      assert.deepEqual(browser.server.log, []);
    }
  }
});

test("a download that breaks off is an error of its own, is not kept, and begins again", withMaterial, async () => {
  for (const ranges of [true, false]) {
    for (const cache of [true, false]) {
      Object.assign(browser.server.manners, { ranges, cutAfter: 100_000, only: MODEL });
      const broken = await tell(MODEL, { cache });
      assert.equal(broken.name, "LampyrisError");
      assert.equal(broken.code, "network", JSON.stringify(broken));
      browser.server.manners.cutAfter = undefined;
      assert.ok(expected().includes((await tell(MODEL, { cache })).text.trim()));
      await page.evaluate(() => window.lampyris.Lampyris.forget());
    }
  }
  browser.server.manners.down = true;
  assert.equal((await tell(MODEL)).code, "network");
});

test("rubbish is refused by name, and so is what the browser kept when it is damaged", withMaterial, async () => {
  // A byte of the header's length of strings.
  Object.assign(browser.server.manners, { corrupt: 8, only: MODEL });
  const rubbish = await tell(MODEL, { cache: false });
  assert.equal(rubbish.code, "bad-file", JSON.stringify(rubbish));
  browser.server.manners.corrupt = undefined;
  assert.equal((await tell("/test/browser.mjs", { cache: false })).code, "bad-file");
  assert.equal((await tell("/material/none/", { cache: false })).code, "bad-file");
  const good = await tell(MODEL);
  const damaged = await page.evaluate(async () => {
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("lampyris");
    for await (const [name, handle] of folder.entries()) {
      if (!name.endsWith(".bytes")) continue;
      const file = await handle.createWritable({ keepExistingData: true });
      await file.write({ type: "write", position: 200_000, data: new Uint8Array([1, 2, 3, 4]) });
      await file.close();
    }
  }).then(() => tell(MODEL));
  assert.equal(damaged.code, "bad-file", JSON.stringify(damaged));
  assert.match(damaged.message, /damaged/);
  assert.deepEqual(await tell(MODEL), good);
});

test("files, folders of the private file system and bytes are sources too", withMaterial, async () => {
  const found = await page.evaluate(async ([model, folder]) => {
    const get = async (address) => (await fetch(address)).blob();
    const blob = await get(model);
    const names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    const files = await Promise.all(names.map(async (name) => new File([await get(folder + name)], name)));
    const home = await (await navigator.storage.getDirectory()).getDirectoryHandle("model", { create: true });
    for (const file of files) {
      const writing = await (await home.getFileHandle(file.name, { create: true })).createWritable();
      await writing.write(file);
      await writing.close();
    }
    const bytes = await blob.arrayBuffer();
    const sources = [new File([blob], "stories.gguf"), blob, bytes, new Uint8Array(bytes), files, home];
    sources.push(await Promise.all(files.map(async (file) => ({ name: file.name, bytes: await file.arrayBuffer() }))));
    const told = [];
    for (const source of sources) told.push(await window.tell(source));
    return [...told, await window.tell({}), await window.tell(new File(["no model"], "a.gguf")), await window.tell([])];
  }, [MODEL, FOLDER]);
  const texts = found.slice(0, 7).map(({ text }) => text);
  assert.ok(texts.every((text) => text?.length > 20), JSON.stringify(found));
  assert.equal(new Set(texts.slice(0, 4)).size, 1);
  assert.equal(new Set(texts.slice(4)).size, 1);
  assert.deepEqual(found.slice(7).map(({ code }) => code), ["bad-input", "bad-file", "bad-file"]);
});
