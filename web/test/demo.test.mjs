// The demonstration as a visitor uses it: built, opened, drawn on by mouse, and asked for a story.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { build } from "vite";
import { open } from "./browser.mjs";

const demo = resolve(import.meta.dirname, "../demo");

let made;
let browser;
let page;
before(async () => {
  made = mkdtempSync(join(tmpdir(), "lampyris-demo-"));
  await build({ configFile: join(demo, "vite.config.ts"), logLevel: "error", build: { outDir: made, emptyOutDir: true } });
  browser = await open({ made });
  page = await browser.page("/made/");
});
after(async () => {
  await browser?.close();
  if (made !== undefined) rmSync(made, { recursive: true, force: true });
});

/** Keeps a picture of a tab where LAMPYRIS_SHOTS says. */
const shot = async (name) => {
  const folder = process.env.LAMPYRIS_SHOTS;
  if (folder !== undefined) await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
};

test("a seven drawn by mouse is a seven", async () => {
  const paper = await page.locator("#paper").boundingBox();
  const at = (x, y) => [paper.x + x * paper.width, paper.y + y * paper.height];
  await page.mouse.move(...at(0.28, 0.22));
  await page.mouse.down();
  await page.mouse.move(...at(0.72, 0.22), { steps: 6 });
  await page.mouse.move(...at(0.45, 0.82), { steps: 8 });
  await page.mouse.up();
  await page.waitForFunction(() => document.getElementById("draw-says").textContent === "This is: 7");
  await shot("draw");
});

test("the storyteller goes on with a story, and a stop ends it", async () => {
  await page.click("#tab-write");
  await page.click("#tell");
  await page.waitForFunction(() => document.getElementById("story").textContent.length > 120);
  await page.click("#stop");
  await page.waitForFunction(() => document.getElementById("stop").disabled);
  const story = await page.textContent("#story");
  assert.ok(story.startsWith("Once upon a time"), story);
  assert.match(story, /^[\x20-\x7e\s]+$/);
  await shot("write");
});

test("the adapter is told, and the tabs are reached by keyboard", async () => {
  await page.focus("#tab-write");
  await page.keyboard.press("ArrowRight");
  await page.waitForFunction(() => !document.getElementById("device").hidden && document.getElementById("facts").rows.length > 3);
  assert.match(await page.textContent("#notice"), /CPU/);
  await shot("device");
});
