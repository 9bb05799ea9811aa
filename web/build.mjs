// Makes the npm package of what `cargo xtask web` has built: the module shrunk, the TypeScript bundled, the sizes held to their limits.

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build, transform } from "esbuild";
import { ordered } from "./order.mjs";
import { shrunk } from "./shrink.mjs";

/** Most bytes of the module, gzipped, and of the glue, minified: what joins the module to the browser. */
const LIMITS = { module: 1_000_000, glue: 20_000 };

/** A module that is not optimized is for trying things out: no limit holds for it, nor for one with a standard library that is not small. */
const quick = process.argv.includes("--quick");
const limited = !quick && !process.argv.includes("--no-limit");

process.chdir(import.meta.dirname);
rmSync("pkg", { recursive: true, force: true });
mkdirSync("pkg");

/** What every browser with WebGPU has, and Rust's compiler uses. More would let the optimizer write what browsers refuse. */
const FEATURES = ["bulk-memory", "multivalue", "mutable-globals", "nontrapping-float-to-int", "reference-types", "sign-ext"];

/** What gzip makes smaller. Its `-Oz` makes the module a twenty-fifth smaller as it is, and a hundredth larger gzipped. */
const PASSES = ["--duplicate-function-elimination", "--remove-unused-module-elements", "--memory-packing", "--reorder-functions-by-name", "--strip-debug"];

const tool = (name, ...args) => execFileSync(`node_modules/.bin/${name}`, args, { stdio: "inherit" });

/** As `gzip` writes it, which is what servers send; Node's own is a fiftieth larger, and stands in where there is no gzip. */
function gzipped(bytes) {
  try {
    return execFileSync("gzip", ["-9c"], { input: bytes, maxBuffer: 1 << 30 }).length;
  } catch {
    return gzipSync(bytes, { level: 9 }).length;
  }
}

let from = "glue/lampyris_bg.wasm";
if (!quick) {
  writeFileSync("glue/ordered.wasm", ordered(readFileSync(from)));
  tool("wasm-opt", ...PASSES, ...FEATURES.map((feature) => `--enable-${feature}`), "glue/ordered.wasm", "-o", "glue/optimized.wasm");
  from = "glue/optimized.wasm";
}
const { module, script } = shrunk(readFileSync(from), readFileSync("glue/lampyris.js", "utf8"));
writeFileSync("pkg/lampyris_bg.wasm", module);
tool("tsc");
// The bundler of the demonstration takes types away and does not look at them.
for (const project of ["demo", "demo/tsconfig.vite.json"]) tool("tsc", "--project", project);
await build({
  // The glue with the short names takes the place of the one that TypeScript has looked at.
  plugins: [{
    name: "glue",
    setup(build) {
      build.onLoad({ filter: /glue[/\\]lampyris\.js$/ }, () => ({ contents: script, loader: "js" }));
    },
  }],
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

const { code: glue } = await transform(script, { minify: true, format: "esm", target: "es2022" });
const sizes = { module: gzipped(module), glue: glue.length };
console.log(`lampyris_bg.wasm: ${module.length} bytes, ${sizes.module} gzipped (at most ${LIMITS.module})`);
console.log(`the glue: ${sizes.glue} bytes minified (at most ${LIMITS.glue})`);
for (const file of readdirSync("pkg").filter((file) => file.endsWith(".js"))) {
  const bytes = readFileSync(`pkg/${file}`);
  console.log(`${file}: ${bytes.length} bytes, ${gzipped(bytes)} gzipped`);
}
for (const [part, limit] of Object.entries(LIMITS)) {
  if (sizes[part] > limit && limited) {
    console.error(`the ${part} of the package is ${sizes[part] - limit} bytes over its limit`);
    process.exitCode = 1;
  }
}
