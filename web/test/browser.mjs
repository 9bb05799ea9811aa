// Starts and ends what a test of the package needs: headless Chromium on the software adapter, with a profile of its own, and a server.

import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { chromium } from "playwright-core";
import { serve } from "./server.mjs";

const here = import.meta.dirname;

/** The folder with trained models and photos; undefined where it is not and need not be. */
export const material = (() => {
  const folder = resolve(here, process.env.LAMPYRIS_MATERIAL ?? "../../../shared/material");
  if (existsSync(folder)) return folder;
  if ((process.env.LAMPYRIS_REQUIRE ?? "").includes("material")) throw new Error(`there is no ${folder}`);
  return undefined;
})();

export const EXECUTABLE = process.env.LAMPYRIS_BROWSER ?? "/usr/bin/chromium";

/** As the adapter of any machine: software, with everything off that would look for a network. */
export const FLAGS = [
  "--no-sandbox",
  "--disable-gpu-sandbox",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
export const WEBGPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];

/** A server of the package, of the tests, of the material, and of more folders. */
export const serving = (folders) => serve({ pkg: resolve(here, "../pkg"), test: here, ...(material && { material }), ...folders });

/** A browser with `more` flags, with WebGPU if not told otherwise, a server, and a way to end both. */
export async function open(folders = {}, { webgpu = true, more = [] } = {}) {
  const profile = mkdtempSync(join(tmpdir(), "lampyris-web-"));
  const server = await serving(folders);
  const gone = async () => {
    await server.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  };
  let context;
  try {
    context = await chromium.launchPersistentContext(profile, {
      executablePath: EXECUTABLE,
      headless: true,
      args: [...FLAGS, ...(webgpu ? WEBGPU : []), ...more],
      ignoreDefaultArgs: ["--disable-gpu"],
    });
  } catch (error) {
    // A server that listens would keep the test waiting for ever.
    await gone();
    throw error;
  }
  return {
    server,
    context,
    /** A fresh page with the package on it. What goes wrong on it is printed. */
    async page(path = "/test/page.html") {
      const page = await context.newPage();
      page.on("pageerror", (error) => console.error("page:", error.message));
      // What a server refuses is what many tests are about.
      const told = (message) => message.type() === "error" && !message.text().startsWith("Failed to load resource");
      page.on("console", (message) => told(message) && console.error("page:", message.text()));
      page.setDefaultTimeout(120_000);
      await page.goto(new URL(path, server.at).href);
      if (path === "/test/page.html") await page.waitForFunction(() => document.title === "ready");
      return page;
    },
    async close() {
      await context.close();
      await gone();
    },
  };
}

/** Asks until the answer is yes, and fails where it does not come in `ms` milliseconds. */
export async function until(what, asked, ms = 60_000) {
  for (const end = Date.now() + ms; !(await asked()); await new Promise((resolve) => setTimeout(resolve, 20))) {
    if (Date.now() > end) throw new Error(`it took more than ${ms / 1000} s until ${what}`);
  }
}

/** Waits until a page has no worker, for half a second on end: of one that starts and of one that ends it is told a little later. */
export async function alone(page) {
  let since = Date.now();
  await until("the page has no worker", () => {
    if (page.workers().length > 0) since = Date.now();
    return Date.now() - since > 500;
  });
}

/** What a model at `source` tells on a page with the package: `{ text }`, or the error's name, code and message. */
export const tell = (page, source, options) => page.evaluate(([source, options]) => window.tell(source, options), [source, options]);
