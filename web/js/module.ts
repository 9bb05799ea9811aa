// Where the wasm module comes from: beside the package, from the page's own address, or from what the page has already.

import { breath } from "./breath.js";
import { LampyrisError, asError } from "./errors.js";
import { PIECE } from "./ranged.js";
import { absolute } from "./source.js";

/** What a page may give as the module. */
export type Module = string | URL | BufferSource | WebAssembly.Module;

const isAddress = (module: unknown): module is string | URL => typeof module === "string" || module instanceof URL;

/** The same module for a worker, for which a relative address would mean another place and a URL cannot be copied. */
export const handed = <T>(module: T): T | string => (isAddress(module) ? absolute(module, globalThis.document?.baseURI).href : module);

/** Whether it can be compiled, or is; objects of other windows count. */
function isModule(module: unknown): boolean {
  const tag = Object.prototype.toString.call(module);
  return ArrayBuffer.isView(module) || /^\[object (Shared)?ArrayBuffer\]$/.test(tag) || tag === "[object WebAssembly.Module]";
}

/** Hands on a part of the module a piece at a time: what is there at once, as from the browser's own cache, would be decoded in one task. */
async function paced(part: Uint8Array, to: TransformStreamDefaultController<Uint8Array>): Promise<void> {
  for (let at = 0; at < part.length; at += PIECE) {
    to.enqueue(part.subarray(at, at + PIECE));
    await breath();
  }
}

/** What the glue starts: a server's answer that can be the module, or what was given. */
export async function sourceOf(module: Module | undefined): Promise<Response | BufferSource | WebAssembly.Module> {
  if (module !== undefined && !isAddress(module)) {
    if (isModule(module)) return module;
    throw new LampyrisError("bad-input", "`module` is the module's address, its bytes, or what WebAssembly has compiled of it");
  }
  // In this very form bundlers find the file.
  const address = module === undefined ? new URL("lampyris_bg.wasm", import.meta.url) : absolute(module, globalThis.document?.baseURI);
  const missing = (why: string, cause?: unknown): LampyrisError =>
    new LampyrisError("network", `${address.href} did not come (${why}); serve lampyris_bg.wasm beside the package`, { cause });
  let answer: Response;
  try {
    answer = await fetch(address);
  } catch (thrown) {
    throw missing(asError(thrown).message, thrown);
  }
  if (!answer.ok) throw missing(String(answer.status));
  // As servers of single-page applications answer for whatever they have not.
  if (/^text\/html\b/i.test(answer.headers.get("content-type") ?? "")) throw missing("an HTML page came instead");
  return new Response(answer.body?.pipeThrough(new TransformStream({ transform: paced })) ?? null, answer);
}
