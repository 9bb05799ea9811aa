// Makes the npm package of what `cargo xtask web` has built: the module shrunk, the TypeScript bundled, the sizes held to their limits.

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

/** Most bytes of the module, gzipped, and of the scripts as they are. */
const LIMITS = { module: 1_000_000, scripts: 20_000 };

/** A module that is not optimized is for trying things out: no limit holds for it. */
const quick = process.argv.includes("--quick");

process.chdir(import.meta.dirname);
rmSync("pkg", { recursive: true, force: true });
mkdirSync("pkg");

/** What every browser with WebGPU has, and Rust's compiler uses. More would let the optimizer write what browsers refuse. */
const FEATURES = ["bulk-memory", "multivalue", "mutable-globals", "nontrapping-float-to-int", "reference-types", "sign-ext"];

const tool = (name, ...args) => execFileSync(`node_modules/.bin/${name}`, args, { stdio: "inherit" });
if (quick) copyFileSync("glue/lampyris_bg.wasm", "pkg/lampyris_bg.wasm");
else tool("wasm-opt", "-Oz", ...FEATURES.map((feature) => `--enable-${feature}`), "glue/lampyris_bg.wasm", "-o", "pkg/lampyris_bg.wasm");
tool("tsc");
await build({
  entryPoints: { lampyris: "js/index.ts", worker: "js/worker.ts" },
  outdir: "pkg",
  bundle: true,
  // The worker shares the package's script.
  splitting: true,
  chunkNames: "[name]",
  minify: true,
  format: "esm",
  target: "es2022",
  logLevel: "warning",
});

const { name, version, description, license, repository } = JSON.parse(readFileSync("package.json", "utf8"));
const manifest = {
  name,
  version,
  description,
  license,
  repository,
  type: "module",
  sideEffects: false,
  exports: { ".": { types: "./types/index.d.ts", default: "./lampyris.js" }, "./lampyris_bg.wasm": "./lampyris_bg.wasm" },
};
writeFileSync("pkg/package.json", `${JSON.stringify(manifest, null, 2)}\n`);
copyFileSync("README.md", "pkg/README.md");
for (const licence of ["LICENSE-APACHE", "LICENSE-MIT"]) copyFileSync(`../${licence}`, `pkg/${licence}`);

const module = readFileSync("pkg/lampyris_bg.wasm");
const scripts = readdirSync("pkg").filter((file) => file.endsWith(".js"));
const sizes = {
  module: gzipSync(module, { level: 9 }).length,
  scripts: scripts.reduce((sum, script) => sum + statSync(`pkg/${script}`).size, 0),
};
console.log(`lampyris_bg.wasm: ${module.length} bytes, ${sizes.module} gzipped (at most ${LIMITS.module})`);
console.log(`${scripts.join(", ")}: ${sizes.scripts} bytes (at most ${LIMITS.scripts})`);
for (const [part, limit] of Object.entries(LIMITS)) {
  if (sizes[part] > limit && !quick) {
    console.error(`the ${part} of the package is ${sizes[part] - limit} bytes over its limit`);
    process.exitCode = 1;
  }
}
