// The package as somebody else gets it: packed by npm, installed into an empty folder, and used there without a bundler, by Vite and by webpack.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { build, createServer } from "vite";
import webpack from "webpack";
import { open } from "./browser.mjs";

const web = resolve(import.meta.dirname, "..");

/** What a page of somebody's does: on the main thread, and in a worker. */
const SCRIPT = `
import { Lampyris, LampyrisWorker } from "lampyris";
const use = async (kind) => {
  const gpu = await kind.create();
  const eyes = await gpu.loadVision("/bundled/sketches/", { cache: false });
  const drawing = await createImageBitmap(await (await fetch("/bundled/sketches/samples/fish.png")).blob());
  const [{ label }] = await eyes.classify(drawing);
  const teller = await gpu.loadText("/bundled/storyteller/storyteller.gguf", { context: 64, cache: false });
  let text = "";
  for await (const piece of teller.generate("Once upon a time", { maxTokens: 12 })) text += piece;
  gpu.dispose();
  return { label, text };
};
window.used = [];
for (const kind of [Lampyris, LampyrisWorker]) window.used.push(await use(kind).catch(String));
document.title = "used";
`;

/** webpack, with nothing set but where. */
async function pack(home, out) {
  const options = { mode: "production", context: home, entry: "./main.js", output: { path: out } };
  const stats = await new Promise((resolve, reject) => webpack(options, (error, stats) => (error ? reject(error) : resolve(stats))));
  assert.ok(!stats.hasErrors(), stats.toString({ all: false, errors: true }));
}

let home;
let browser;
let development;
before(async () => {
  home = mkdtempSync(join(tmpdir(), "lampyris-pack-"));
  // npm is a script of another name on Windows.
  const npm = (...args) => execFileSync("npm", args, { cwd: home, stdio: ["ignore", "pipe", "inherit"], shell: process.platform === "win32" });
  npm("pack", "--silent", join(web, "pkg"));
  const [packed] = readdirSync(home).filter((name) => name.endsWith(".tgz"));
  writeFileSync(join(home, "package.json"), JSON.stringify({ name: "somebodys", private: true, type: "module" }));
  npm("install", "--silent", "--offline", "--no-audit", "--no-fund", join(home, packed));
  writeFileSync(join(home, "main.js"), SCRIPT);
  const imports = { imports: { lampyris: "/home/node_modules/lampyris/lampyris.js" } };
  const page = (head) => `<!doctype html><title>somebody's</title>${head}<script type="module" src="./main.js"></script>`;
  writeFileSync(join(home, "plain.html"), page(`<script type="importmap">${JSON.stringify(imports)}</script>`));
  writeFileSync(join(home, "index.html"), page(""));
  for (const folder of ["vite", "webpack"]) mkdirSync(join(home, folder));
  await build({ root: home, base: "./", configFile: false, logLevel: "error", build: { outDir: join(home, "vite"), emptyOutDir: true } });
  await pack(home, join(home, "webpack"));
  writeFileSync(join(home, "webpack/index.html"), `<!doctype html><title>somebody's</title><script src="./main.js"></script>`);
  browser = await open({ home, bundled: resolve(web, "../models/bundled") });
  const server = { host: "127.0.0.1", port: 0, proxy: { "/bundled": browser.server.at } };
  development = await createServer({ root: home, configFile: false, logLevel: "error", server });
  await development.listen();
});
after(async () => {
  await development?.close();
  await browser?.close();
  if (home !== undefined) rmSync(home, { recursive: true, force: true });
});

test("what is packed is what is needed, with types and licences", () => {
  const installed = join(home, "node_modules/lampyris");
  const files = readdirSync(installed).sort();
  for (const file of ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "lampyris.js", "lampyris_bg.wasm", "package.json", "types", "worker.js"]) {
    assert.ok(files.includes(file), `${file} is not among ${files}`);
  }
  assert.match(readFileSync(join(installed, "types/index.d.ts"), "utf8"), /class Lampyris\b/);
  assert.equal(JSON.parse(readFileSync(join(installed, "package.json"), "utf8")).dependencies, undefined);
});

/** A page of somebody's who checks types: the README's example, and what it does not show. */
const TYPED = (example) => `
${example}
import { LampyrisError, LampyrisWorker, type Check, type ErrorCode, type Prediction } from "lampyris";
declare const bar: HTMLProgressElement, out: HTMLElement, signal: AbortSignal, picked: FileSystemDirectoryHandle;
const first: Prediction | undefined = (await eyes.classify(new ImageData(1, 1), { top: 1 }))[0];
const vectors: Float32Array[] = await (await lampyris.loadEmbedder(picked, { cache: false })).embed(["a"]);
const checks: Check[] = await lampyris.doctor({ only: "matmul" });
const code = (thrown: unknown): ErrorCode | undefined => (thrown instanceof LampyrisError ? thrown.code : undefined);
const there = await LampyrisWorker.create();
there.dispose();
// @ts-expect-error A picture is not a number: the types are there and not \`any\`.
await eyes.classify(7);
// @ts-expect-error Nor are texts.
const wrong: number[] = teller.generate("a");
export { checks, code, first, vectors, wrong };
`;

test("the README's example and a strict TypeScript page agree with the types", () => {
  const example = /```ts\n([\s\S]*?)```/.exec(readFileSync(join(web, "README.md"), "utf8"))?.[1];
  assert.ok(example?.includes("loadVision"));
  writeFileSync(join(home, "typed.ts"), TYPED(example));
  const options = ["--noEmit", "--strict", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler", "--lib", "es2022,dom,dom.iterable"];
  const told = spawnSync(process.execPath, [join(web, "node_modules/typescript/bin/tsc"), ...options, "typed.ts"], { cwd: home, encoding: "utf8" });
  assert.equal(told.status, 0, told.stdout + told.stderr);
});

const native = JSON.parse(readFileSync(join(import.meta.dirname, "native.json"), "utf8"));
const WAYS = [
  ["without a bundler", () => "/home/plain.html"],
  ["built by Vite", () => "/home/vite/"],
  ["served by Vite", () => `http://127.0.0.1:${development.httpServer.address().port}/`],
  ["built by webpack", () => "/home/webpack/"],
];
for (const [how, where] of WAYS) {
  test(`installed, it names a drawing and tells a story ${how}, on the page and in a worker`, async () => {
    const page = await browser.page(where());
    await page.waitForFunction(() => document.title === "used");
    const [here, there] = await page.evaluate(() => window.used);
    assert.equal(here.label, "fish", JSON.stringify(here));
    assert.ok(here.text.length > 10 && native.story.text.startsWith(here.text), here.text);
    assert.deepEqual(there, here);
    await page.close();
  });
}
