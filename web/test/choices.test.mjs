// The demonstration when one choice follows another before the first is done: photos, the camera, models. The last one counts.

import assert from "node:assert/strict";
import { join, resolve } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { alone, material, until } from "./browser.mjs";
import { says, site, tab } from "./site.mjs";

const withMaterial = { skip: material === undefined && "no trained models here; tests/MATERIAL.md says what belongs there" };
const bundled = resolve(import.meta.dirname, "../../models/bundled");
const sample = (name) => join(bundled, `sketches/samples/${name}.png`);
const NOTES = { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("no picture") };

let browser;
let page;
let wrong;
before(async () => {
  browser = await site({ more: ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"] });
  ({ page, wrong } = await browser.visit());
  await says(page, "#chip-says", /\w/);
});
after(() => browser?.close());
afterEach(() => assert.deepEqual(wrong, [], "the page's console has nothing to complain of"));

/** What is seen of the picture. */
const shown = () => page.evaluate(() => document.getElementById("shown").toDataURL());

/** Makes photos be read only when the test lets them, the failures too. */
const hold = () =>
  page.evaluate(() => {
    const make = window.createImageBitmap;
    window.held = [];
    window.createImageBitmap = async (...how) => {
      const made = make(...how);
      made.catch(() => {});
      if (how[0] instanceof File) await new Promise((resolve) => window.held.push(resolve));
      return made;
    };
    window.restore = () => void (window.createImageBitmap = make);
  });
const held = (count) => until(`${count} photos are read`, async () => (await page.evaluate(() => window.held.length)) >= count);
const release = (at) =>
  page.evaluate(async (at) => {
    window.held[at]();
    await new Promise((resolve) => setTimeout(resolve, 300));
  }, at);

test("of two photos the one that was chosen last is shown and named, however long the other is read", async () => {
  await tab(page, "Photo");
  await hold();
  for (const earlier of [sample("house"), NOTES]) {
    await page.evaluate(() => {
      window.held.length = 0;
      document.getElementById("photo-says").textContent = "";
    });
    await page.setInputFiles("#photo-file", earlier);
    await page.setInputFiles("#photo-file", sample("fish"));
    await held(2);
    await release(1);
    await says(page, "#photo-says", /^This is: fish$/);
    const fish = await shown();
    await release(0);
    assert.equal(await page.textContent("#photo-says"), "This is: fish");
    assert.equal(await shown(), fish);
    assert.match(await page.locator("#photo-bars li").first().innerText(), /^fish\s/);
  }
  await page.evaluate(() => window.restore());
});

test("photos that are chosen before the model is there leave only the last one's name", async () => {
  await page.addInitScript(() => {
    const request = GPUAdapter.prototype.requestDevice;
    const go = new Promise((resolve) => (window.go = resolve));
    GPUAdapter.prototype.requestDevice = async function (...how) {
      await go;
      return request.apply(this, how);
    };
  });
  await page.reload();
  await tab(page, "Photo");
  await page.evaluate(() => {
    window.told = [];
    const place = document.getElementById("photo-says");
    new MutationObserver(() => window.told.push(place.textContent)).observe(place, { childList: true, characterData: true, subtree: true });
  });
  for (const name of ["house", "7", "fish"]) {
    const before = await shown();
    await page.setInputFiles("#photo-file", sample(name));
    await until(`${name} is shown`, async () => (await shown()) !== before);
  }
  await page.evaluate(() => window.go());
  await says(page, "#photo-says", /^This is: fish$/);
  assert.deepEqual(await page.evaluate(() => window.told), ["Looking …", "This is: fish"]);
  await says(page, "#photo-time", /^[\d.]+ ms$/);
});

test("a photo that is read too late does not take the camera's place, and one that is chosen meanwhile does", async () => {
  await tab(page, "Photo");
  await hold();
  await page.setInputFiles("#photo-file", sample("house"));
  await held(1);
  await page.click("#camera");
  await says(page, "#photo-time", /^[\d.]+ ms a frame, [\d.]+ frames a second$/);
  assert.equal(await page.getAttribute("#photo-says", "aria-live"), "off");
  await release(0);
  assert.equal(await page.textContent("#camera"), "Stop the camera");
  await says(page, "#photo-time", /frames a second$/);
  // Nor is it kept for a look after the camera's end: that is at the last frame.
  await page.click("#camera");
  assert.equal(await page.getAttribute("#photo-says", "aria-live"), null);
  const frame = await shown();
  await page.evaluate(() => document.getElementById("vision-bundled").click());
  await says(page, "#photo-time", /^[\d.]+ ms$/);
  assert.equal(await shown(), frame);
  assert.doesNotMatch(await page.textContent("#photo-says"), /house/);
  await page.click("#camera");
  await says(page, "#photo-time", /frames a second$/);
  // Chromium's made-up camera is wider than it is high; a drawing is not.
  const size = () => page.evaluate(() => [document.getElementById("shown").width, document.getElementById("shown").height]);
  const [width, height] = await size();
  assert.ok(width > height, `${width} x ${height}`);
  await page.evaluate(() => window.restore());
  await page.setInputFiles("#photo-file", sample("fish"));
  await says(page, "#photo-says", /^This is: fish$/);
  assert.equal(await page.textContent("#camera"), "Start the camera");
  await says(page, "#photo-time", /^[\d.]+ ms$/);
  const [wide, high] = await size();
  assert.equal(wide, high);
});

test("another model looks at the camera's last frame, and not at a photo from before", withMaterial, async () => {
  await tab(page, "Photo");
  await page.click("#camera");
  await says(page, "#photo-time", /frames a second$/);
  await page.click("#camera");
  const frame = await shown();
  await page.setInputFiles("#vision-folder", join(material, "mobilenet_tiny/mobilenet_v3_small_w025"));
  await says(page, "#vision-name", /^mobilenet_v3_small_w025, loaded in/);
  await says(page, "#photo-time", /^[\d.]+ ms$/);
  assert.equal(await shown(), frame);
  assert.doesNotMatch(await page.textContent("#photo-says"), /fish/);
  await page.click("#vision-bundled");
  await says(page, "#vision-name", /^Bundled/);
  await says(page, "#photo-time", /^[\d.]+ ms$/);
});

test("a camera that is allowed too late is let go of", async () => {
  await page.evaluate(() => {
    const media = navigator.mediaDevices;
    const request = media.getUserMedia.bind(media);
    window.late = [];
    media.getUserMedia = async (wanted) => {
      const stream = await request(wanted);
      await new Promise((resolve) => window.late.push({ stream, resolve }));
      return stream;
    };
    window.restore = () => void (media.getUserMedia = request);
  });
  const late = () => page.evaluate(() => window.late.map(({ stream }) => stream.getTracks()[0].readyState));
  await tab(page, "Photo");
  const before = await page.innerText("#photo-says");
  await page.click("#camera");
  await until("a camera is asked for", async () => (await late()).length >= 1);
  assert.match(await page.innerText("#photo-says"), /^Waiting for the camera/);
  await tab(page, "Draw");
  await page.evaluate(async () => {
    window.late[0].resolve();
    await new Promise((resolve) => setTimeout(resolve, 50));
  });
  assert.deepEqual(await late(), ["ended"]);
  await tab(page, "Photo");
  assert.equal(await page.innerText("#photo-says"), before);
  assert.equal(await page.textContent("#camera"), "Start the camera");
  // Two starts: the later one counts.
  await page.click("#camera");
  await page.click("#camera");
  await until("two more cameras are asked for", async () => (await late()).length >= 3);
  await page.evaluate(() => window.late.forEach(({ resolve }) => resolve()));
  await until("the earlier camera is let go of", async () => (await late())[1] === "ended");
  assert.deepEqual((await late()).slice(1), ["ended", "live"]);
  await tab(page, "Draw");
  assert.deepEqual((await late()).slice(1), ["ended", "ended"]);
  await page.evaluate(() => window.restore());
});

test("a camera that is stopped before its first frame leaves what was said before", async () => {
  await tab(page, "Photo");
  // Both what names a photo and what names a failure stay as they were.
  for (const [picture, said, failed] of [[sample("fish"), /^This is: fish$/, false], [NOTES, /^notes\.txt is no picture/, true]]) {
    await page.setInputFiles("#photo-file", picture);
    await says(page, "#photo-says", said);
    await page.evaluate(async () => {
      const video = document.getElementById("video");
      const wait = video.play;
      const asked = new Promise((resolve) => {
        video.play = () => {
          resolve();
          return wait.call(video);
        };
      });
      document.getElementById("camera").click();
      await asked;
      document.getElementById("camera").click();
      delete video.play;
      await new Promise((resolve) => setTimeout(resolve, 300));
    });
    assert.match(await page.textContent("#photo-says"), said);
    assert.equal(await page.evaluate(() => document.getElementById("photo-says").classList.contains("failed")), failed);
    assert.equal(await page.textContent("#camera"), "Start the camera");
  }
});

test("a camera that goes away is let go of, and that is said", async () => {
  await tab(page, "Photo");
  await page.click("#camera");
  await says(page, "#photo-time", /frames a second$/);
  await page.evaluate(() => document.getElementById("video").srcObject.getTracks()[0].dispatchEvent(new Event("ended")));
  await says(page, "#photo-says", /^The camera has gone/);
  assert.equal(await page.textContent("#camera"), "Start the camera");
  await page.waitForTimeout(300);
  await says(page, "#photo-says", /^The camera has gone/);
});

test("of two models of pictures the one that was chosen last is used", withMaterial, async () => {
  await tab(page, "Photo");
  await page.setInputFiles("#vision-files", ["model.safetensors", "config.json"].map((file) => join(material, "mobilenet_v2", file)));
  await page.setInputFiles("#vision-folder", join(material, "mobilenet_tiny/mobilenet_v3_small_w025"));
  await says(page, "#vision-name", /^mobilenet_v3_small_w025, loaded in/);
  await page.waitForTimeout(2000);
  assert.match(await page.textContent("#vision-name"), /^mobilenet_v3_small_w025, loaded in/);
  assert.equal(await page.locator("#vision-bar").isVisible(), false);
  await page.focus("#vision-bundled");
  await page.keyboard.press("Enter");
  await says(page, "#vision-name", /^Bundled/);
  assert.equal(await page.evaluate(() => document.activeElement.id), "vision-files");
});

test("loading is stopped at once, though the worker for it has not started", async () => {
  await tab(page, "Write");
  await page.evaluate(() => {
    const Real = window.Worker;
    // One that is never asked anything, and so never answers.
    window.Worker = class extends Real {
      postMessage() {}
    };
    window.restore = () => void (window.Worker = Real);
  });
  const model = join(bundled, "storyteller/storyteller.gguf");
  await page.setInputFiles("#text-files", model);
  await until("the worker starts", () => page.workers().length === 1, 30_000);
  await page.click("#text-cancel");
  await says(page, "#text-name", "Stopped. The bundled storyteller is used.");
  await alone(page);
  await page.evaluate(() => window.restore());
  await page.setInputFiles("#text-files", model);
  await says(page, "#text-name", /^storyteller\.gguf, .*loaded in/);
});
