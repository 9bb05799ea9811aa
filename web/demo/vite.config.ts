// Builds the demonstration as static files: the page, the package, the bundled models, and what serves them without a network.

import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { type Plugin, defineConfig } from "vite";

const here = import.meta.dirname;
const bundled = resolve(here, "../../models/bundled");
const MODELS = [
  "sketches/config.json",
  "sketches/preprocessor_config.json",
  "sketches/model.safetensors",
  "storyteller/storyteller.gguf",
];

/** Serves the bundled models, and puts them and the service worker into the build. */
const site: Plugin = {
  name: "lampyris-site",
  configureServer(server) {
    server.middlewares.use("/models", (request, response, next) => {
      const file = MODELS.find((model) => request.url?.split("?")[0] === `/${model}`);
      if (file === undefined || !existsSync(resolve(bundled, file))) return next();
      response.end(readFileSync(resolve(bundled, file)));
    });
  },
  generateBundle(_, bundle) {
    for (const model of MODELS) {
      this.emitFile({ type: "asset", fileName: `models/${model}`, source: readFileSync(resolve(bundled, model)) });
    }
    // Models are kept by the package.
    const files = [...Object.keys(bundle), "models/sketches/config.json"].filter((file) => !file.endsWith(".html"));
    const version = createHash("sha256").update(files.join("\n")).digest("hex").slice(0, 12);
    const worker = readFileSync(resolve(here, "src/offline.js"), "utf8");
    const source = worker.replace('"__FILES__"', JSON.stringify(files)).replace("__VERSION__", version);
    this.emitFile({ type: "asset", fileName: "worker.js", source });
  },
};

export default defineConfig({
  root: here,
  base: "./",
  resolve: { alias: { lampyris: resolve(here, "../pkg/lampyris.js") } },
  build: { target: "es2022", assetsInlineLimit: 0 },
  plugins: [site],
});
