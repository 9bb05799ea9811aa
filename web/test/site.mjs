// The demonstration, built and opened under the strictest content policy that it may ask of a server, with hands to use and to look at it.

import { mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { build } from "vite";
import { open } from "./browser.mjs";

const demo = resolve(import.meta.dirname, "../demo");
/** Where pictures of the page are kept for a person to look at; git does not see it. */
const shots = resolve(import.meta.dirname, "shots");

/** What the README tells a server to send: nothing from elsewhere, no inline script or style, and WebAssembly. */
export const POLICY =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'";

/** Builds the page into a folder that goes away with `close`, and opens a browser. */
export async function site(options) {
  const made = mkdtempSync(join(tmpdir(), "lampyris-demo-"));
  const gone = () => rmSync(made, { recursive: true, force: true });
  try {
    await build({ configFile: join(demo, "vite.config.ts"), logLevel: "error", build: { outDir: made, emptyOutDir: true } });
    const browser = await open({ made }, options);
    browser.server.manners.headers = { "content-security-policy": POLICY };
    return {
      ...browser,
      made,
      /** Puts another version in the place of the one that is served: every file but the page has another name, and the page another text. */
      deploy() {
        const assets = join(made, "assets");
        const renamed = readdirSync(assets).map((name) => [name, name.replace(/(?=\.\w+$)/, "-next")]);
        for (const [old, fresh] of renamed) renameSync(join(assets, old), join(assets, fresh));
        const scripts = readdirSync(assets).filter((name) => /\.(js|css)$/.test(name));
        for (const path of ["index.html", "offline.js", ...scripts.map((name) => join("assets", name))].map((name) => join(made, name))) {
          let text = readFileSync(path, "utf8");
          for (const [old, fresh] of renamed) text = text.replaceAll(old, fresh);
          text = text.replace("Nothing leaves this device.</p>", "Nothing at all leaves it.</p>").replace(/[0-9a-f]{12}(?=`;)/, "next");
          writeFileSync(path, text);
        }
        return renamed.map(([old]) => old);
      },
      /** A visit, with what went wrong in it and where it asked for something. */
      async visit(path = "/made/") {
        const page = await browser.page(path);
        const wrong = [];
        page.on("pageerror", (error) => wrong.push(error.message));
        page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
        const asked = [];
        page.on("request", (request) => asked.push(request.url()));
        return { page, wrong, asked };
      },
      async close() {
        await browser.close();
        gone();
      },
    };
  } catch (error) {
    gone();
    throw error;
  }
}

/** Waits until an element says something. Looked at from outside, because the policy lets no test compile code in the page. */
export const says = (page, selector, text) => page.locator(selector, { hasText: text }).waitFor();

/** Opens a tab. */
export const tab = (page, name) => page.getByRole("tab", { name }).click();

/** Keeps pictures of what is seen: light, dark, and as on a phone. */
export async function shoot(page, name) {
  mkdirSync(shots, { recursive: true });
  const view = page.viewportSize();
  const looks = [
    ["light", "light", view],
    ["dark", "dark", view],
    ["phone", "light", { width: 360, height: 740 }],
  ];
  for (const [look, colorScheme, size] of looks) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize(size);
    await page.screenshot({ path: join(shots, `${name}-${look}.png`), fullPage: true });
  }
  await page.emulateMedia({ colorScheme: null });
  await page.setViewportSize(view);
}

/** Draws on the paper by mouse, along places from 0 to 1. */
export async function scribble(page, places) {
  const paper = await page.locator("#paper").boundingBox();
  const at = ([x, y]) => [paper.x + x * paper.width, paper.y + y * paper.height];
  await page.mouse.move(...at(places[0]));
  await page.mouse.down();
  for (const place of places.slice(1)) await page.mouse.move(...at(place), { steps: 8 });
  await page.mouse.up();
}

/** The strokes of a seven. */
export const SEVEN = [
  [0.28, 0.22],
  [0.72, 0.22],
  [0.45, 0.82],
];
