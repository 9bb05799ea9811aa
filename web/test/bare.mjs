// Headless Chromium with nothing attached to its pages but what a measurement asks for: a tool that records their network, as playwright
// does, has every body encoded on the page's thread, which then looks like the package's work.

import { spawn } from "node:child_process";
import { EventEmitter } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EXECUTABLE, FLAGS, WEBGPU, serving, until } from "./browser.mjs";

/** A browser and a server as `open` of browser.mjs gives them, driven by the DevTools protocol alone. */
export async function bare(folders = {}) {
  const server = await serving(folders);
  const profile = mkdtempSync(join(tmpdir(), "lampyris-bare-"));
  const flags = [...FLAGS, ...WEBGPU, "--headless", "--remote-debugging-pipe", `--user-data-dir=${profile}`, "about:blank"];
  const browser = spawn(EXECUTABLE, flags, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
  const gone = new Promise((resolve) => {
    browser.once("error", resolve);
    browser.once("close", () => resolve(new Error("the browser ended")));
  });
  const [to, from] = [browser.stdio[3], browser.stdio[4]];
  // What is written to a browser that has ended fails by `gone`.
  for (const pipe of [to, from]) pipe.on("error", () => {});
  const asked = new Map();
  const events = new EventEmitter();
  let rest = "";
  from.setEncoding("utf8").on("data", (more) => {
    const messages = (rest + more).split("\0");
    rest = messages.pop();
    for (const { id, error, result, method, params } of messages.map((message) => JSON.parse(message))) {
      if (id === undefined) events.emit(method, params);
      else if (error) asked.get(id).reject(new Error(error.message));
      else asked.get(id).resolve(result);
      asked.delete(id);
    }
  });
  let last = 0;
  const send = (method, params = {}, sessionId = undefined) => {
    const id = ++last;
    const answer = new Promise((resolve, reject) => asked.set(id, { resolve, reject }));
    to.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return Promise.race([answer, gone.then((error) => Promise.reject(error))]);
  };
  return {
    server,
    /** A fresh page with the package on it. */
    async page() {
      const { targetId } = await send("Target.createTarget", { url: new URL("/test/page.html", server.at).href });
      const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
      const page = {
        /** The browser itself, as playwright's sessions are driven. */
        client: Object.assign(events, { send, detach: async () => {} }),
        /** What `work` gives there, of an argument that is plain data. */
        async evaluate(work, argument) {
          const expression = `(${work})(${JSON.stringify(argument)})`;
          const { result, exceptionDetails } = await send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true }, sessionId);
          if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
          return result.value;
        },
        close: () => send("Target.closeTarget", { targetId }),
      };
      // A page that has only begun answers nothing.
      await until("the package is on its page", () => page.evaluate(() => document.title === "ready").catch(() => false));
      return page;
    },
    async close() {
      const end = setTimeout(() => browser.kill("SIGKILL"), 10_000);
      await send("Browser.close").catch(() => {});
      await gone;
      clearTimeout(end);
      await server.close();
      rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
    },
  };
}
