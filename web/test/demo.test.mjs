// The demonstration as a visitor uses it: drawn on by mouse, finger and keys, shown photos and a camera, and asked for stories.

import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { alone, material } from "./browser.mjs";
import { POLICY, SEVEN, says, scribble, shoot, site, tab } from "./site.mjs";
import { noise, parts, shards } from "./splitting.mjs";
import { LONGEST, longest, tasks } from "./thread.mjs";

const withMaterial = { skip: material === undefined && "no trained models here; tests/MATERIAL.md says what belongs there" };
const json = (...path) => JSON.parse(readFileSync(join(material, ...path), "utf8"));
/** What the native program gives. */
const native = JSON.parse(readFileSync(join(import.meta.dirname, "native.json"), "utf8"));

let browser;
let page;
let wrong;
let asked;
before(async () => {
  browser = await site({ more: ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"] });
  ({ page, wrong, asked } = await browser.visit());
  await says(page, "#chip-says", /\w/);
});
after(() => browser?.close());
afterEach(() => {
  assert.deepEqual(wrong, [], "the page's console and its content policy have nothing to complain of");
  const away = asked.filter((url) => !url.startsWith(browser.server.at) && !url.startsWith("blob:"));
  assert.deepEqual(away, [], "nothing is asked of anyone else");
});

test("a software adapter is told plainly", async () => {
  await says(page, "#notice", "not a GPU");
  await says(page, "#draw-says", "Nothing drawn yet");
  await shoot(page, "draw-empty");
});

test("a seven drawn by mouse is a seven, and is taken back", async () => {
  await scribble(page, SEVEN);
  await says(page, "#draw-says", /^This is: 7$/);
  await says(page, "#draw-time", /^[\d.]+ ms a look$/);
  assert.equal(await page.locator("#draw-bars li").count(), 5);
  assert.match(await page.locator("#draw-bars li").first().innerText(), /^7\s+\d+\.\d %$/);
  await shoot(page, "draw");
  await page.click("#undo");
  await says(page, "#draw-says", "Nothing drawn yet");
  assert.equal(await page.locator("#draw-bars li").count(), 0);
});

test("the bundled drawings are what the native program says they are", async () => {
  for (const { label } of native.drawings) {
    await page.click(`[data-sample="${label}"]`);
    await says(page, "#draw-says", new RegExp(`^This is: ${label}$`));
  }
  await page.click("#clear");
  await says(page, "#draw-says", "Nothing drawn yet");
});

test("a finger draws on a phone", async () => {
  const view = page.viewportSize();
  await page.setViewportSize({ width: 360, height: 740 });
  const box = await page.locator("#paper").boundingBox();
  const session = await page.context().newCDPSession(page);
  const touch = (type, places) =>
    session.send("Input.dispatchTouchEvent", { type, touchPoints: places.map(([x, y]) => ({ x: box.x + x * box.width, y: box.y + y * box.height })) });
  await touch("touchStart", [SEVEN[0]]);
  for (const [at, to] of SEVEN.slice(1).entries()) {
    const from = SEVEN[at];
    for (let step = 1; step <= 8; step += 1) {
      await touch("touchMove", [[from[0] + ((to[0] - from[0]) * step) / 8, from[1] + ((to[1] - from[1]) * step) / 8]]);
    }
  }
  await touch("touchEnd", []);
  await session.detach();
  await says(page, "#draw-says", /^This is: 7$/);
  await page.setViewportSize(view);
  await page.click("#clear");
});

test("keys alone reach every tab and draw", async () => {
  await page.reload();
  await says(page, "#chip-says", /\w/);
  const focused = () => page.evaluate(() => document.activeElement.id);
  const open = async () => (await page.locator("[role=tabpanel]:visible").evaluateAll((all) => all.map(({ id }) => id))).join();
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "tab-draw");
  for (const [key, tab, panel] of [
    ["ArrowRight", "tab-photo", "photo"],
    ["ArrowRight", "tab-write", "write"],
    ["End", "tab-device", "device"],
    ["ArrowRight", "tab-draw", "draw"],
    ["ArrowLeft", "tab-device", "device"],
    ["Home", "tab-draw", "draw"],
  ]) {
    await page.keyboard.press(key);
    assert.deepEqual([await focused(), await open()], [tab, panel], key);
  }
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "paper");
  // A one: from the middle up, put down, and a line all the way down.
  for (let step = 0; step < 7; step += 1) await page.keyboard.press("ArrowUp");
  await page.keyboard.press("Space");
  for (let step = 0; step < 14; step += 1) await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Space");
  await says(page, "#draw-says", /^(This is|Perhaps): 1$/);
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "undo");
  await page.keyboard.press("Enter");
  await says(page, "#draw-says", "Nothing drawn yet");
  assert.equal(await focused(), "paper");
});

test("a photo without a MobileNet gets an answer, and what is no picture a sentence", async () => {
  await tab(page, "Photo");
  await shoot(page, "photo-empty");
  await page.setInputFiles("#photo-file", { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("no picture") });
  await says(page, "#photo-says", "notes.txt is no picture that this browser can read; choose a JPEG, PNG or WebP file.");
  await page.setInputFiles("#photo-file", join(import.meta.dirname, "../../models/bundled/sketches/samples/house.png"));
  await says(page, "#photo-says", /^This is: house$/);
  await page.setInputFiles("#vision-files", { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("no model") });
  await says(page, "#vision-name", "There is no .safetensors file in what you chose");
  await page.setInputFiles("#vision-files", { name: "model.safetensors", mimeType: "", buffer: Buffer.from("no model at all, but long enough to be looked at") });
  await says(page, "#vision-name", /\bmodel\.safetensors\b.*\.$/);
  assert.ok((await page.textContent("#vision-name")).length < 250);
});

test("a large photo is made smaller before it is looked at", async () => {
  await tab(page, "Photo");
  const large = await page.evaluate(() => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 3000, height: 1500 });
    canvas.getContext("2d").fillRect(0, 0, 3000, 1500);
    const make = window.createImageBitmap;
    window.sizes = [];
    window.createImageBitmap = async (...how) => {
      const made = await make(...how);
      window.sizes.push([made.width, made.height]);
      return made;
    };
    window.restore = () => void (window.createImageBitmap = make);
    return canvas.toDataURL("image/png").split(",")[1];
  });
  await page.setInputFiles("#photo-file", { name: "large.png", mimeType: "image/png", buffer: Buffer.from(large, "base64") });
  await page.waitForFunction(() => window.sizes.length === 2);
  await says(page, "#photo-says", /^(This is|Perhaps)/);
  assert.deepEqual(await page.evaluate(() => (window.restore(), window.sizes)), [[3000, 1500], [1024, 512]]);
});

test("a photo dropped on the page is named by MobileNetV2 as the reference does", withMaterial, async () => {
  const { images } = json("mobilenet_v2", "reference.json");
  const sure = images.find((image) => image.margin > 3 && image.top1_right);
  const files = ["mobilenet_v2/model.safetensors", "mobilenet_v2/config.json", "imagenet-labels.txt"].map((file) => join(material, file));
  await tab(page, "Photo");
  await page.setInputFiles("#vision-files", files);
  await says(page, "#vision-name", /^model\.safetensors, loaded in/);
  const session = await page.context().newCDPSession(page);
  const box = await page.locator("#drop").boundingBox();
  const at = { x: box.x + box.width / 2, y: box.y + box.height / 2 };
  const data = { items: [], files: [join(material, "images", sure.file)], dragOperationsMask: 1 };
  for (const type of ["dragEnter", "dragOver", "drop"]) await session.send("Input.dispatchDragEvent", { type, ...at, data });
  await session.detach();
  await says(page, "#photo-says", new RegExp(`^(This is|Perhaps): ${sure.top5[0].name}$`));
  await says(page, "#photo-time", /^[\d.]+ ms$/);
  const share = Number((await page.locator("#photo-bars .share").first().innerText()).replace(" %", ""));
  assert.ok(Math.abs(share / 100 - sure.top5[0].prob) < 0.05, `${share} %, the reference ${sure.top5[0].prob}`);
  await shoot(page, "photo");
});

test("the camera is looked at frame by frame, with rate and time, until it is stopped", async () => {
  await tab(page, "Photo");
  await page.click("#camera");
  await says(page, "#photo-time", /^[\d.]+ ms a frame, [\d.]+ frames a second$/);
  assert.equal(await page.textContent("#camera"), "Stop the camera");
  const live = () => page.evaluate(() => document.getElementById("video").srcObject?.getTracks().map((track) => track.readyState) ?? []);
  assert.deepEqual(await live(), ["live"]);
  // Chromium's made-up camera shows a green ground.
  const colours = await page.evaluate(() => {
    const canvas = document.getElementById("shown");
    return [...canvas.getContext("2d").getImageData(canvas.width / 2, 8, 1, 1).data];
  });
  assert.ok(colours[1] > 100 && colours[3] === 255, String(colours));
  await shoot(page, "camera");
  const track = await page.evaluateHandle(() => document.getElementById("video").srcObject.getTracks()[0]);
  await tab(page, "Draw");
  assert.equal(await track.evaluate(({ readyState }) => readyState), "ended", "a camera that is not seen is not on");
  assert.equal(await page.textContent("#camera"), "Start the camera");
});

test("the storyteller tells what the native program tells", async () => {
  await tab(page, "Write");
  await shoot(page, "write-empty");
  await page.selectOption("#length", "60");
  await page.click("#tell");
  await says(page, "#write-time", /tokens a second/);
  const { prompt, text, tokens } = native.story;
  assert.equal(tokens, 60);
  assert.equal(await page.textContent("#story-text"), prompt + text);
  assert.equal(await page.getAttribute("#story", "aria-busy"), "false");
});

test("a story streams, and a stop ends it", async () => {
  await tab(page, "Write");
  await page.selectOption("#length", "500");
  await page.fill("#prompt", "Once upon a time");
  await page.click("#tell");
  await says(page, "#story-text", /^.{60}/s);
  await says(page, "#write-time", /pieces a second/);
  await shoot(page, "write-streaming");
  await page.click("#stop");
  await page.locator("#tell:enabled").waitFor();
  await says(page, "#write-time", /tokens a second/);
  const story = await page.textContent("#story-text");
  assert.ok(story.startsWith("Once upon a time"), story);
  assert.match(story, /^[\x20-\x7e\s]+$/);
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal(await page.textContent("#story-text"), story, "nothing comes after the stop");
  assert.equal(await page.evaluate(() => document.activeElement.id), "tell");
});

test("a model of the visitor's own, from a file and from a folder, goes on as the reference does", withMaterial, async () => {
  const { prompts, models } = json("stories260k", "reference.json");
  await tab(page, "Write");
  await page.selectOption("#length", "60");
  const whole = join(material, "stories260k/hf");
  const sharded = join(browser.made, "sharded");
  mkdirSync(sharded);
  for (const name of ["config.json", "tokenizer.json"]) copyFileSync(join(whole, name), join(sharded, name));
  for (const [name, bytes] of Object.entries(shards(readFileSync(join(whole, "model.safetensors")), 3))) writeFileSync(join(sharded, name), bytes);
  const split = Object.entries(parts(readFileSync(join(material, "stories260k/gguf/stories260K-Q8_0.gguf")), "stories", 3));
  const pieces = split.map(([name, buffer]) => ({ name, mimeType: "", buffer: Buffer.from(buffer) })).reverse();
  const choices = [
    ["#text-folder", sharded, "sharded", models.hf],
    ["#text-files", pieces, "stories-00001-of-00003.gguf", models.Q8_0],
    ["#text-files", join(material, "stories260k/gguf/stories260K-Q8_0.gguf"), "stories260K-Q8_0.gguf", models.Q8_0],
    ["#text-folder", join(material, "stories260k/hf"), "hf", models.hf],
  ];
  for (const [input, path, name, { greedy }] of choices) {
    await page.setInputFiles(input, path);
    await says(page, "#text-name", new RegExp(`^${name}, .*loaded in`));
    await page.fill("#prompt", prompts[1].text);
    await page.click("#tell");
    await page.locator("#tell:enabled").waitFor();
    const told = await page.textContent("#story-text");
    // The reference went on for longer.
    assert.ok(told.length > 100 && greedy[1].text.trim().startsWith(told.trim()), `${name}: ${told}`);
  }
  await shoot(page, "write");
  const lacking = pieces.map(({ name, buffer }) => ({ name: name.replace(".gguf", ".safetensors"), mimeType: "", buffer }));
  await page.setInputFiles("#text-files", lacking);
  await says(page, "#text-name", /^The 3 files of weights in what you chose are parts of one model; choose them with its model\.safetensors\.index\.json\./);
  await page.setInputFiles("#text-files", [{ ...lacking[0], name: "a.safetensors" }, { ...lacking[1], name: "b.gguf" }]);
  await says(page, "#text-name", /^There are 2 files of weights in what you chose/);
  await page.setInputFiles("#text-folder", join(material, "chat-templates"));
  await says(page, "#text-name", /There is no .gguf or .safetensors file in the folder chat-templates; .* The model before it is kept\./);
  await page.setInputFiles("#text-files", { name: "model.gguf", mimeType: "", buffer: Buffer.from("GGUF and nothing that makes sense") });
  await says(page, "#text-name", /model\.gguf.* The bundled storyteller is used\./);
  await page.fill("#prompt", native.story.prompt);
  await page.click("#tell");
  await page.locator("#tell:enabled").waitFor();
  assert.equal(await page.textContent("#story-text"), native.story.prompt + native.story.text);
});

test("a visitor's model is loaded beside the page, which is never kept waiting by its large tokenizer", withMaterial, async () => {
  const folder = join(browser.made, "large");
  mkdirSync(folder);
  copyFileSync(join(material, "tokenizers/smollm2/tokenizer.json"), join(folder, "tokenizer.json"));
  for (const [name, bytes] of Object.entries(noise(49_152))) writeFileSync(join(folder, name), bytes);
  await tab(page, "Write");
  await says(page, "#text-name", /^Bundled|is used\.$/);
  assert.deepEqual(page.workers(), [], "the bundled one needs no worker");

  // Stopped while it loads, it leaves nothing behind.
  await page.setInputFiles("#text-folder", folder);
  await page.focus("#text-cancel");
  await page.keyboard.press("Enter");
  await says(page, "#text-name", "Stopped. The bundled storyteller is used.");
  assert.equal(await page.locator("#text-bar").isVisible(), false);
  assert.equal(await page.evaluate(() => document.activeElement.id), "text-files");
  await alone(page);

  // What the bar shows meanwhile.
  await page.evaluate(() => {
    window.shares = [];
    const bar = document.getElementById("text-bar");
    new MutationObserver(() => bar.hidden || window.shares.push(bar.value)).observe(bar, { attributes: true });
  });
  await page.selectOption("#length", "60");
  await page.fill("#prompt", "The lighthouse");
  let kept = Infinity;
  let told = "";
  // What the page does comes again each time; its garbage and a busy machine do not.
  for (let time = 0; time < 3 && kept > LONGEST; time += 1) {
    const traced = await tasks(page, async () => {
      await page.setInputFiles("#text-folder", folder);
      await page.locator("#text-cancel").waitFor();
      await says(page, "#text-name", /^large, .*loaded in/);
      assert.equal(page.workers().length, 1);
      await page.click("#tell");
      await page.locator("#tell:enabled").waitFor();
    });
    kept = longest("the page beside a visitor's model", traced);
    told = await page.textContent("#story-text");
  }
  assert.ok(kept <= LONGEST, `${kept} ms`);
  const shares = await page.evaluate(() => window.shares);
  assert.ok(shares.some((share) => share > 0 && share < 1), JSON.stringify(shares));
  await says(page, "#write-time", /tokens a second/);

  // The page's own thread tells the same.
  browser.server.manners.headers = {};
  const plain = await browser.page();
  const { result, ...here } = await tasks(plain, () =>
    plain.evaluate(async () => {
      const gpu = await window.lampyris.Lampyris.create();
      const model = await gpu.loadText("/made/large/", { cache: false });
      let text = "";
      for await (const piece of model.generate("The lighthouse", { maxTokens: 60 })) text += piece;
      gpu.dispose();
      return text;
    }),
  );
  await plain.close();
  browser.server.manners.headers = { "content-security-policy": POLICY };
  assert.ok(result.length > 20, result);
  assert.equal(told, `The lighthouse${result}`);
  longest("the same on the page's own thread, for comparison", here);

  await page.focus("#text-bundled");
  await page.keyboard.press("Enter");
  await says(page, "#text-name", /^Bundled/);
  assert.equal(await page.evaluate(() => document.activeElement.id), "text-files");
  await alone(page);
});

test("a model whose worker has died gives its place to the bundled one", withMaterial, async () => {
  await tab(page, "Write");
  await page.evaluate(() => {
    const Real = window.Worker;
    window.Worker = class extends Real {
      constructor(...how) {
        super(...how);
        window.beside = this;
        window.Worker = Real;
      }
    };
  });
  await page.setInputFiles("#text-files", join(material, "stories260k/gguf/stories260K-Q8_0.gguf"));
  await says(page, "#text-name", /loaded in/);
  await page.selectOption("#length", "500");
  // In the midst of a story, which may be told too fast to be caught from outside.
  await page.evaluate(() => {
    const figures = document.getElementById("write-time");
    const seen = new MutationObserver(() => {
      if (!/pieces a second/.test(figures.textContent)) return;
      seen.disconnect();
      window.aloud = figures.getAttribute("aria-live");
      window.beside.dispatchEvent(new ErrorEvent("error", { message: "made to fail" }));
    });
    seen.observe(figures, { childList: true, characterData: true, subtree: true });
  });
  await page.click("#tell");
  await says(page, "#write-time", "worker failed: made to fail.");
  await page.locator("#tell:enabled").waitFor();
  assert.equal(await page.evaluate(() => window.aloud), "off");
  await says(page, "#text-name", /worker has ended; .* The bundled storyteller is used\.$/);
  assert.equal(await page.getAttribute("#write-time", "aria-live"), null);
  assert.equal(await page.locator("#text-bundled").isVisible(), false);
  await page.selectOption("#length", "60");
  await page.fill("#prompt", native.story.prompt);
  await page.click("#tell");
  await says(page, "#write-time", /tokens a second/);
  assert.equal(await page.textContent("#story-text"), native.story.prompt + native.story.text);
});

test("the tab of the device tells limits and memory", async () => {
  await tab(page, "This device");
  await says(page, "#facts", /GPU memory in use\s*\d/);
  const facts = await page.innerText("#facts");
  for (const name of ["Adapter", "Largest buffer", "Heap of the module", "16-bit floats"]) assert.ok(facts.includes(name), facts);
  // The table is not made anew each second.
  const row = await page.evaluateHandle(() => document.querySelector("#facts tr"));
  await page.waitForTimeout(2500);
  assert.equal(await row.evaluate((row) => row.isConnected), true);
  await shoot(page, "device-empty");
});

test("the certificate is given kernel by kernel, and the page answers meanwhile", async () => {
  await tab(page, "This device");
  let kept = Infinity;
  for (let time = 0; time < 3 && kept > LONGEST; time += 1) {
    const traced = await tasks(page, async () => {
      await page.click("#examine");
      await says(page, "#examine-says", /^\d+ of \d+ cases$/);
      assert.equal(await page.evaluate(() => document.activeElement.id), "examine");
      await page.locator("#examine-says", { hasText: /All \d+ kernels agree/ }).waitFor({ timeout: 120_000 });
    });
    kept = longest("the page beside the certificate", traced);
    await page.locator("#examine:not([aria-disabled])").waitFor();
  }
  assert.ok(kept <= LONGEST, `${kept} ms`);
  // It goes when it is done.
  await alone(page);
  await page.click("#kernels-all summary");
  assert.ok((await page.locator("#kernels tbody tr").count()) > 30);
  assert.deepEqual(await page.locator("#findings li").allTextContents(), []);
  await says(page, "#unproved", "Nothing is proved of variants with 16-bit floats or subgroups");
  await shoot(page, "device");
});
