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
  generateBundle: {
    // After the page itself is among the files.
    order: "post",
    handler(_, bundle) {
      const models = MODELS.map((model) => [`models/${model}`, readFileSync(resolve(bundled, model))] as const);
      for (const [fileName, source] of models) this.emitFile({ type: "asset", fileName, source });
      const built = Object.values(bundle).map((file) => [file.fileName, file.type === "asset" ? file.source : file.code] as const);
      const all = [...built, ...models].sort(([a], [b]) => (a < b ? -1 : 1));
      const worker = readFileSync(resolve(here, "src/offline.js"), "utf8");
      // Another version of any file is another version of the whole.
      const hash = createHash("sha256").update(worker);
      for (const [name, source] of all) hash.update(name).update(source);
      // The page is asked for by its folder.
      const files = all.map(([name]) => (name === "index.html" ? "./" : name));
      const source = worker.replace('"__FILES__"', JSON.stringify(files)).replace("__VERSION__", hash.digest("hex").slice(0, 12));
      this.emitFile({ type: "asset", fileName: "offline.js", source });
    },
  },
};

export default defineConfig({
  root: here,
  base: "./",
  resolve: { alias: { lampyris: resolve(here, "../pkg/lampyris.js") } },
  // The package's worker is a module that shares a script with the page.
  worker: { format: "es" },
  build: { target: "es2022", assetsInlineLimit: 0 },
  server: { fs: { allow: [resolve(here, "../..")] } },
  plugins: [site],
});
