// What happens to a text under way: it streams, stops, is given back, and outlives its device; and the page stays awake meanwhile.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { alone, material, open } from "./browser.mjs";

const withMaterial = { skip: material === undefined && "no trained models here; tests/MATERIAL.md says what belongs there" };
const MODEL = "/material/stories260k/hf/";

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

test("pieces come one by one, and leaving the loop or a signal stops them", withMaterial, async () => {
  const found = await page.evaluate(async (source) => {
    const model = await window.gpu.loadText(source, { context: 256 });
    const all = [];
    for await (const piece of model.generate("Lily and Tom", { maxTokens: 60 })) all.push(piece);
    const few = [];
    for await (const piece of model.generate("Lily and Tom", { maxTokens: 60 })) {
      few.push(piece);
      if (few.length === 5) break;
    }
    const control = new AbortController();
    const cut = [];
    const code = await window.code(async () => {
      for await (const piece of model.generate("Lily and Tom", { maxTokens: 60, signal: control.signal })) {
        cut.push(piece);
        if (cut.length === 5) control.abort();
      }
    });
    const early = await window.code(async () => {
      for await (const piece of model.generate("a", { signal: AbortSignal.abort() })) cut.push(piece);
    });
    const again = [];
    for await (const piece of model.generate("Lily and Tom", { maxTokens: 60 })) again.push(piece);
    const drawn = [];
    for (const seed of [1, 1, 2]) {
      let text = "";
      for await (const piece of model.generate("Lily and Tom", { maxTokens: 30, temperature: 1, seed })) text += piece;
      drawn.push(text);
    }
    const senseless = await window.code(() => model.generate("a", { temperature: -1 }).next());
    const long = await window.code(() => model.generate("word ".repeat(300)).next());
    model.dispose();
    const gone = await window.code(() => model.generate("a").next());
    const held = window.gpu.memory().gpu;
    return { all, few, cut, code, early, again, drawn, senseless, long, gone, held };
  }, MODEL);
  assert.ok(found.all.length > 30, JSON.stringify(found.all));
  assert.deepEqual(found.few, found.all.slice(0, 5));
  assert.deepEqual(found.cut, found.all.slice(0, 5));
  assert.deepEqual([found.code, found.early, found.senseless, found.long, found.gone], ["aborted", "aborted", "bad-input", "bad-input", "disposed"]);
  assert.deepEqual(found.again, found.all);
  assert.equal(found.drawn[0], found.drawn[1]);
  assert.notEqual(found.drawn[0], found.drawn[2]);
  assert.equal(found.held, 0, "what was disposed of holds no GPU memory");
});

test("a device destroyed in the middle of a text is survived with the same tokens", withMaterial, async () => {
  const found = await page.evaluate(async (source) => {
    const model = await window.gpu.loadText(source, { context: 256 });
    const eyes = await window.gpu.loadVision("/material/mobilenet_tiny/mobilenet_v2_w025/");
    const picture = new ImageData(64, 64);
    for (let at = 0; at < picture.data.length; at += 1) picture.data[at] = (at * 37) % 256;
    const seen = [await eyes.classify(picture)];
    const tell = async (destroyAt) => {
      const pieces = [];
      for await (const piece of model.generate("The little dog", { maxTokens: 60 })) {
        pieces.push(piece);
        if (pieces.length === destroyAt) window.devices.at(-1).destroy();
      }
      return pieces.join("");
    };
    const whole = await tell(0);
    const before = window.devices.length;
    const broken = [await tell(1), await tell(20)];
    window.devices.at(-1).destroy();
    const after = await tell(0);
    seen.push(await eyes.classify(picture));
    window.devices.at(-1).destroy();
    seen.push(await eyes.classify(picture));
    eyes.dispose();
    model.dispose();
    return { seen, whole, broken, after, opened: window.devices.length - before, times: window.gpu.adapter().timesReopened };
  }, MODEL);
  assert.ok(found.whole.length > 50);
  assert.deepEqual(found.broken, [found.whole, found.whole]);
  assert.equal(found.after, found.whole);
  assert.equal(found.seen[0].length, 5);
  assert.deepEqual(found.seen.slice(1), [found.seen[0], found.seen[0]], "the classifier sees the same on each device");
  assert.deepEqual([found.opened, found.times], [4, 4]);
});

test("a worker gives what the page gives", withMaterial, async () => {
  const found = await page.evaluate(async (source) => {
    const { LampyrisWorker } = window.lampyris;
    const there = await LampyrisWorker.create();
    const shares = [];
    const [a, b] = [await window.gpu.loadText(source, { context: 128 }), await there.loadText(source, { context: 128, onProgress: (share) => shares.push(share) })];
    const told = [];
    for (const model of [a, b]) {
      let text = "";
      for await (const piece of model.generate("Once upon a time", { maxTokens: 40 })) text += piece;
      told.push(text);
    }
    let few = 0;
    for await (const _ of b.generate("Once upon a time", { maxTokens: 40 })) if ((few += 1) === 3) break;
    const control = new AbortController();
    const code = await window.code(async () => {
      for await (const _ of b.generate("Once upon a time", { signal: control.signal })) control.abort();
    });
    const bad = await window.code(() => there.loadText("/material/none/"));
    await b.dispose();
    const adapter = await there.adapter();
    there.dispose();
    a.dispose();
    return { told, few, code, bad, software: adapter.software, last: shares.at(-1) };
  }, MODEL);
  assert.equal(found.told[0], found.told[1]);
  assert.ok(found.told[0].length > 20);
  assert.deepEqual([found.few, found.code, found.bad, found.software, found.last], [3, "aborted", "bad-file", true, 1]);
});

test("a worker that is not wanted any more before it is there leaves nothing", async () => {
  const codes = await page.evaluate(async () => {
    const create = (signal) => window.code(() => window.lampyris.LampyrisWorker.create({ signal }));
    const control = new AbortController();
    const soon = create(control.signal);
    control.abort();
    return [await create(AbortSignal.abort()), await soon];
  });
  assert.deepEqual(codes, ["aborted", "aborted"]);
  await alone(page);
});

test("a model and its worker may be disposed of at once, and nothing fails that nobody waits for", withMaterial, async () => {
  const unhandled = await page.evaluate(async (source) => {
    const failures = [];
    const hear = (event) => {
      event.preventDefault();
      failures.push(String(event.reason));
    };
    addEventListener("unhandledrejection", hear);
    const there = await window.lampyris.LampyrisWorker.create();
    const model = await there.loadText(source, { context: 64 });
    model.dispose();
    there.dispose();
    await new Promise((resolve) => setTimeout(resolve, 300));
    // The listener hears such a thing at all.
    Promise.reject(new Error("made to fail"));
    await new Promise((resolve) => setTimeout(resolve, 300));
    removeEventListener("unhandledrejection", hear);
    return failures;
  }, MODEL);
  assert.deepEqual(unhandled, ["Error: made to fail"]);
});

test("what is disposed of early, twice or together with its worker says `disposed` and leaves nothing", withMaterial, async () => {
  const found = await page.evaluate(async (source) => {
    const { Lampyris, LampyrisWorker } = window.lampyris;
    const gpu = await Lampyris.create();
    const [model, eyes] = [await gpu.loadText(source, { context: 256 }), await gpu.loadVision("/material/mobilenet_tiny/mobilenet_v2_w025/")];
    const picture = new ImageData(64, 64);
    // Left where it waits for the page, and under way when it is disposed of.
    const left = model.generate("Once", { maxTokens: 200 });
    await left.next();
    const codes = [];
    const told = window.code(async () => {
      for await (const _ of model.generate("Once upon a time", { maxTokens: 200 })) model.dispose();
    });
    codes.push(await told, await window.code(() => left.next()), await window.code(() => model.encode("a")));
    const looking = eyes.classify(picture);
    eyes.dispose();
    const seen = (await looking).length;
    eyes.dispose();
    model.dispose();
    codes.push(await window.code(() => eyes.classify(picture)), await window.code(() => eyes.setLabels([])));
    const held = gpu.memory().gpu;
    const loading = gpu.loadText(source, { context: 64 });
    gpu.dispose();
    gpu.dispose();
    const late = await loading;
    late.dispose();
    codes.push(await window.code(async () => gpu.adapter()), await window.code(async () => gpu.memory()), await window.code(() => gpu.loadText(source)));
    const there = await LampyrisWorker.create();
    const far = await there.loadText(source, { context: 128 });
    const control = new AbortController();
    const soon = far.generate("Once", { signal: control.signal });
    const asked = window.code(() => soon.next());
    control.abort();
    const early = await asked;
    const open = far.generate("Once upon a time", { maxTokens: 60 });
    await open.next();
    there.dispose();
    await open.return();
    await far.dispose();
    codes.push(await window.code(() => there.adapter()), await window.code(() => far.generate("a").next()));
    return { codes, seen, held, early };
  }, MODEL);
  assert.deepEqual(found.codes, Array(10).fill("disposed"));
  assert.deepEqual([found.seen, found.held, found.early], [5, 0, "aborted"]);
});
