// The package's own scripts without the module: how files are fetched, kept and checked, and how pieces reach a page that stops or is slow.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { build } from "esbuild";
import { open } from "./browser.mjs";

const MIB = 1 << 20;
const PAGE = `<!doctype html><title>files</title><script type="module">
  window.files = await import("./bundle.js");
  document.title = "ready";
</script>`;
const ENTRY = `
  export { folder } from "./source.ts";
  export { forget } from "./kept.ts";
  export { pieces } from "./pieces.ts";
  export { asError } from "./errors.ts";
  export { pixels } from "./pixels.ts";
`;

let browser;
let page;
let made;
/** Three windows, the last a short one, of which none repeats. */
const bytes = Buffer.alloc(8 * MIB + 12_345);
before(async () => {
  for (let at = 0; at + 4 <= bytes.length; at += 4) bytes.writeUInt32LE((at * 2654435761) >>> 0, at);
  made = mkdtempSync(join(tmpdir(), "lampyris-files-"));
  mkdirSync(join(made, "model"));
  writeFileSync(join(made, "index.html"), PAGE);
  writeFileSync(join(made, "model/model.safetensors"), bytes);
  writeFileSync(join(made, "model/config.json"), "{}");
  const js = resolve(import.meta.dirname, "../js");
  await build({ stdin: { contents: ENTRY, resolveDir: js, loader: "ts" }, bundle: true, format: "esm", outfile: join(made, "bundle.js"), logLevel: "error" });
  browser = await open({ made });
  page = await browser.page("/made/");
  await page.waitForFunction(() => document.title === "ready");
  await page.evaluate(() => {
    window.hash = async (data) => Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", data)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    // The file's hash, read in odd pieces out of order, with what else was found; or the error's code.
    window.take = async (source, how) => {
      let from;
      try {
        from = window.files.folder(source, how);
        const [file] = (await from.weights()).files;
        const all = new Uint8Array(file.size);
        const step = 3_000_001;
        const starts = Array.from({ length: Math.ceil(file.size / step) }, (_, at) => at * step).reverse();
        for (const start of starts) all.set(await file.read(start, Math.min(start + step, file.size)), start);
        const [config, absent] = [await from.small("config.json"), await from.small("absent.json")];
        await from.finish?.();
        const again = await file.read(5, 25);
        const same = again.length === 20 && again.every((byte, at) => byte === all[at + 5]);
        return { name: file.name, size: file.size, hash: await window.hash(all), same, config: config && new TextDecoder().decode(config), absent: absent ?? null };
      } catch (thrown) {
        await from?.discard?.();
        const { code, message } = window.files.asError(thrown);
        return { code, message };
      }
    };
  });
});
after(async () => {
  await browser?.close();
  if (made !== undefined) rmSync(made, { recursive: true, force: true });
});
beforeEach(async () => {
  Object.assign(browser.server.manners, { ranges: true, cutAfter: undefined, corrupt: undefined, down: false, only: "" });
  browser.server.log.length = 0;
  await page.evaluate(() => window.files.forget());
});

const take = (source, how) => page.evaluate(([source, how]) => window.take(source, how), [source, how]);
const whole = { name: "model.safetensors", size: bytes.length, hash: createHash("sha256").update(bytes).digest("hex"), same: true, config: "{}", absent: null };

test("every server's files arrive byte for byte, by windows where it knows ranges", async () => {
  const combinations = [
    ["/made/model/", true, true],
    ["/made/model/model.safetensors?version=1", false, true],
    ["/made/model", true, false],
    ["/made/model/", false, false],
  ];
  for (const [source, cache, ranges] of combinations) {
    browser.server.manners.ranges = ranges;
    browser.server.log.length = 0;
    assert.deepEqual(await take(source, { cache }), whole, `${source}, ${cache ? "kept" : "not kept"}, ${ranges ? "with" : "without"} ranges`);
    const asked = browser.server.log.filter(({ path }) => path.endsWith("model.safetensors"));
    assert.ok(asked.every(({ range }) => range !== undefined));
    assert.ok(ranges ? asked.length >= 3 : asked.length === 1, JSON.stringify(asked));
    await page.evaluate(() => window.files.forget());
  }
});

test("what was kept needs no server, and what was not is asked for again", async () => {
  for (const ranges of [true, false]) {
    await page.evaluate(() => window.files.forget());
    Object.assign(browser.server.manners, { ranges, down: false });
    assert.deepEqual(await take("/made/model/", { cache: true }), whole);
    browser.server.manners.down = true;
    browser.server.log.length = 0;
    assert.deepEqual(await take("/made/model/", { cache: true }), whole);
    assert.deepEqual(browser.server.log, []);
    assert.equal((await take("/made/model/", { cache: false })).code, "network");
  }
});

test("a download that breaks off is an error, is not kept, and begins again", async () => {
  for (const ranges of [true, false]) {
    for (const cutAfter of [1, 3 * MIB]) {
      Object.assign(browser.server.manners, { ranges, cutAfter, only: "model.safetensors" });
      const broken = await take("/made/model/", { cache: true });
      assert.equal(broken.code, "network", JSON.stringify(broken));
      browser.server.manners.cutAfter = undefined;
      browser.server.log.length = 0;
      assert.deepEqual(await take("/made/model/", { cache: true }), whole);
      assert.ok(browser.server.log.some(({ path }) => path.endsWith("model.safetensors")), "nothing of it was kept");
      await page.evaluate(() => window.files.forget());
    }
  }
});

test("damage to what was kept is noticed, and heals by loading again", async () => {
  assert.deepEqual(await take("/made/model/", { cache: true }), whole);
  const damage = () =>
    page.evaluate(async () => {
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("lampyris");
      let touched = 0;
      for await (const [name, handle] of folder.entries()) {
        if (!name.endsWith(".bytes") || (await handle.getFile()).size < 1000) continue;
        const file = await handle.createWritable({ keepExistingData: true });
        await file.write({ type: "write", position: 5_000_000, data: new Uint8Array([1, 2, 3]) });
        await file.close();
        touched += 1;
      }
      return touched;
    });
  assert.equal(await damage(), 1);
  const damaged = await take("/made/model/", { cache: true });
  assert.equal(damaged.code, "bad-file", JSON.stringify(damaged));
  assert.match(damaged.message, /damaged/);
  assert.deepEqual(await take("/made/model/", { cache: true }), whole);
});

test("nothing is kept of a load that fails, and no file is left open", async () => {
  const found = await page.evaluate(async () => {
    const from = window.files.folder("/made/model/", { cache: true });
    await from.weights();
    await from.small("config.json");
    await from.small("absent.json");
    await from.discard();
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("lampyris");
    const names = [];
    for await (const name of folder.keys()) names.push(name);
    return names;
  });
  assert.deepEqual(found, []);
});

test("a page in a file's place is no file", async () => {
  browser.server.manners.headers = { "content-type": "text/html; charset=utf-8" };
  try {
    const found = await page.evaluate(async () => {
      const from = window.files.folder("/made/model/", { cache: true });
      const code = await from.weights().then(() => "none", (error) => error.code);
      return [(await from.small("config.json")) ?? null, code];
    });
    assert.deepEqual(found, [null, "bad-file"]);
  } finally {
    browser.server.manners.headers = {};
  }
});

test("what is forgotten meanwhile is read from the server, if it is what it was", async () => {
  for (const visit of ["first", "second"]) {
    const found = await page.evaluate(async (visit) => {
      const load = async () => {
        const from = window.files.folder("/made/model/", { cache: true });
        const [file] = (await from.weights()).files;
        const before = await file.read(5_000_000, 8_400_000);
        await from.finish();
        return [file, before];
      };
      if (visit === "second") await load();
      const [file, before] = await load();
      await window.files.forget();
      const after = await file.read(5_000_000, 8_400_000);
      return [await window.hash(before), await window.hash(after)];
    }, visit);
    assert.equal(found[0], found[1]);
    assert.ok(browser.server.log.length > 0);
  }
});

test("a file that is changed while it is loaded is refused", async () => {
  for (const header of ["etag", "last-modified"]) {
    browser.server.manners.headers = { [header]: "one" };
    const begun = await page.evaluateHandle(async () => (await window.files.folder("/made/model/", { cache: false }).weights()).files[0]);
    browser.server.manners.headers = { [header]: "another" };
    const code = await begun.evaluate((file) => file.read(5_000_000, 5_000_010).then(() => "none", (error) => error.code));
    browser.server.manners.headers = {};
    assert.equal(code, "bad-file", header);
  }
  const begun = await page.evaluateHandle(async () => (await window.files.folder("/made/model/", { cache: false }).weights()).files[0]);
  writeFileSync(join(made, "model/model.safetensors"), Buffer.concat([bytes, bytes.subarray(0, 4)]));
  const code = await begun.evaluate((file) => file.read(5_000_000, 5_000_010).then(() => "none", (error) => error.code));
  writeFileSync(join(made, "model/model.safetensors"), bytes);
  assert.equal(code, "bad-file", "its size");
});

test("folders in a folder are looked into, and a chosen folder's files are known by their places in it", async () => {
  const found = await page.evaluate(async () => {
    const home = await (await navigator.storage.getDirectory()).getDirectoryHandle("encoder", { create: true });
    const pooling = await home.getDirectoryHandle("1_Pooling", { create: true });
    for (const [folder, name, text] of [[home, "model.safetensors", "w"], [home, "config.json", "outer"], [pooling, "config.json", "inner"]]) {
      const writing = await (await folder.getFileHandle(name, { create: true })).createWritable();
      await writing.write(text);
      await writing.close();
    }
    const file = (place, text) => {
      const made = new File([text], place.split("/").at(-1));
      Object.defineProperty(made, "webkitRelativePath", { value: place });
      return made;
    };
    const chosen = [file("m/1_Pooling/config.json", "inner"), file("m/config.json", "outer"), file("m/model.safetensors", "w")];
    const answers = [];
    for (const source of [home, chosen]) {
      const from = window.files.folder(source, { cache: false });
      const names = (await from.weights()).files.map(({ name }) => name);
      const texts = ["config.json", "1_Pooling/config.json", "2_Dense/config.json"].map((name) => from.small(name));
      answers.push([names, (await Promise.all(texts)).map((bytes) => (bytes === undefined ? null : new TextDecoder().decode(bytes)))]);
    }
    return answers;
  });
  const expected = [["model.safetensors"], ["outer", "inner", null]];
  assert.deepEqual(found, [expected, expected]);
});

test("a picture is not mixed with the one before, and one of another origin is refused without harm to the next", async () => {
  const other = await open({ made });
  try {
    writeFileSync(join(made, "dot.svg"), '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"><rect width="4" height="4" fill="red"/></svg>');
    const found = await page.evaluate(async (address) => {
      const filled = (style) => {
        const canvas = new OffscreenCanvas(4, 4);
        const context = canvas.getContext("2d");
        context.fillStyle = style;
        context.fillRect(0, 0, 4, 4);
        return canvas;
      };
      const seen = (picture) => Array.from(window.files.pixels(picture).data.subarray(0, 4));
      const [clear, full] = [filled("rgb(0 0 0 / 0)"), filled("rgb(200 100 50)")];
      const first = seen(clear);
      const opaque = seen(full);
      const second = seen(clear);
      const foreign = new Image();
      foreign.src = address;
      await foreign.decode();
      let refused;
      try {
        seen(foreign);
      } catch ({ code, message }) {
        refused = { code, message };
      }
      return { first, opaque, second, refused, after: seen(full) };
    }, `${other.server.at}/made/dot.svg`);
    assert.deepEqual([found.first, found.opaque, found.second], [[0, 0, 0, 0], [200, 100, 50, 255], [0, 0, 0, 0]]);
    assert.equal(found.refused?.code, "bad-input");
    assert.match(found.refused.message, /CORS/);
    assert.deepEqual(found.after, found.opaque);
  } finally {
    await other.close();
  }
});

test("a signal stops a download, and what is no source is refused", async () => {
  const found = await page.evaluate(async () => {
    const control = new AbortController();
    control.abort();
    const from = window.files.folder("/made/model/", { cache: false, signal: control.signal });
    const code = (work) => Promise.resolve().then(work).then(() => "none", (error) => error.code);
    const how = { cache: false };
    return [
      await code(() => from.weights()),
      await code(() => window.files.folder("/made/model/", { cache: false, signal: AbortSignal.abort("enough") }).weights()),
      await code(async () => {
        const late = window.files.folder("/made/model/", { cache: false, signal: AbortSignal.timeout(20) });
        for (;;) await late.weights();
      }),
      await code(() => window.files.folder({}, how)),
      await code(() => window.files.folder(null, how)),
      await code(() => window.files.folder("http://[", how)),
      await code(() => window.files.folder("/made/none/", how).weights()),
      await code(() => window.files.folder([], how).weights()),
    ];
  });
  assert.deepEqual(found, ["aborted", "aborted", "aborted", "bad-input", "bad-input", "bad-input", "bad-file", "bad-file"]);
});

test("pieces reach a slow page in order, and stop when it leaves, aborts or the run fails", async () => {
  const found = await page.evaluate(async () => {
    const { pieces } = window.files;
    const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    // A run of ten pieces that notes how far it came.
    const run = (fail) => {
      const far = { emitted: 0, ended: false };
      const start = async (emit) => {
        for (let at = 0; at < 10; at += 1) {
          if (at === fail) throw Object.assign(new Error("lost"), { code: "device-lost" });
          far.emitted += 1;
          if (!(await emit(String(at)))) break;
        }
        far.ended = true;
      };
      return [far, start];
    };
    const results = [];
    const collect = async ([far, start], { leave, abort, slow, signal } = {}) => {
      const control = new AbortController();
      const got = [];
      let code = "none";
      try {
        for await (const piece of pieces(start, signal ?? control.signal)) {
          got.push(piece);
          if (slow) await pause(5);
          if (got.length === abort) control.abort();
          if (got.length === abort) await pause(30);
          if (got.length === leave) break;
        }
      } catch (error) {
        code = error.code;
      }
      results.push([got.join(""), code, far.emitted, far.ended]);
    };
    await collect(run());
    await collect(run(), { slow: true });
    await collect(run(), { leave: 3 });
    await collect(run(), { abort: 4 });
    await collect(run(5));
    await collect(run(0));
    await collect(run(), { signal: AbortSignal.abort() });
    // Stopped while the run is at work and the page waits.
    const control = new AbortController();
    const waiting = pieces(async (emit) => (await pause(40), emit("late")), control.signal);
    setTimeout(() => control.abort(), 5);
    results.push(await waiting.next().then(() => "none", (error) => error.code));
    return results;
  });
  assert.deepEqual(found, [
    ["0123456789", "none", 10, true],
    ["0123456789", "none", 10, true],
    ["012", "none", 3, true],
    ["0123", "aborted", 4, true],
    ["01234", "device-lost", 5, false],
    ["", "device-lost", 0, false],
    ["", "aborted", 0, false],
    "aborted",
  ]);
});

