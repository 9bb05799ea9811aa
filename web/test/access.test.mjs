// The demonstration for everybody: no serious finding of axe's in either scheme, nothing wider than a phone, names for all that can be used.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { SEVEN, says, scribble, site, tab } from "./site.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const TABS = ["Draw", "Photo", "Write", "This device"];

let browser;
let page;
before(async () => {
  browser = await site();
  ({ page } = await browser.visit());
  await says(page, "#chip-says", /\w/);
  await scribble(page, SEVEN);
  await says(page, "#draw-says", /^This is: 7$/);
  await tab(page, "This device");
  await says(page, "#facts", /GPU memory in use\s*\d/);
  await page.evaluate(AXE);
});
after(() => browser?.close());

const TINY = { width: 360, height: 740 };
const WIDE = { width: 1280, height: 720 };

for (const colorScheme of ["light", "dark"]) {
  test(`axe finds nothing to mend in any tab, ${colorScheme}`, async () => {
    for (const size of [WIDE, TINY]) {
      await page.setViewportSize(size);
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      for (const name of TABS) {
        await tab(page, name);
        const { violations, passes } = await page.evaluate(() => window.axe.run());
        const found = violations.map(({ id, impact, nodes }) => `${id} (${impact}): ${nodes.map(({ html }) => html).join(" ")}`);
        assert.deepEqual(found, [], `${name}, ${size.width} pixels`);
        const judged = passes.map(({ id }) => id);
        for (const rule of ["color-contrast", "aria-allowed-attr", "button-name"]) assert.ok(judged.includes(rule), `${rule} was looked at in ${name}`);
      }
    }
  });
}

test("nothing is wider than a phone", async () => {
  await page.setViewportSize(TINY);
  for (const name of TABS) {
    await tab(page, name);
    const found = await page.evaluate(() => ({
      whole: document.documentElement.scrollWidth,
      wide: [...document.querySelectorAll("main *, header *, [role=tab]")]
        .filter((one) => one.checkVisibility() && one.getBoundingClientRect().right > innerWidth + 0.5)
        .map((one) => one.outerHTML.slice(0, 80)),
    }));
    assert.deepEqual(found, { whole: TINY.width, wide: [] }, name);
  }
});

test("fingers find what they aim at", async () => {
  await page.setViewportSize(TINY);
  for (const name of TABS) {
    await tab(page, name);
    const small = await page.evaluate(() =>
      [...document.querySelectorAll("button, .button, select, summary, [role=tab]")]
        .filter((one) => one.checkVisibility())
        .map((one) => [one.textContent.trim(), one.getBoundingClientRect()])
        .filter(([, { width, height }]) => width < 32 || height < 32)
        .map(([text, { width, height }]) => `${text}: ${width} x ${height}`),
    );
    assert.deepEqual(small, [], name);
  }
});
