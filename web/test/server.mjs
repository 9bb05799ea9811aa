// A server on the loopback address that serves folders well, badly, or not at all: what a page of the tests talks to.

import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const KINDS = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".css": "text/css",
  ".json": "application/json",
  ".wasm": "application/wasm",
  ".jpg": "image/jpeg",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".webmanifest": "application/manifest+json",
};

/** What is at a path; undefined where nothing is, or where a part of it is a file. */
function facing(path) {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

/**
 * Serves `folders` by the first part of an address. `manners` may be changed while it runs: `ranges` false for a server that knows
 * no ranges, `cutAfter` for one that hangs up after so many bytes of a body, `corrupt` for one that changes a byte at that offset,
 * `down` for none, `headers` for what is sent with every answer. They touch only addresses with `only` in them. `log` holds each request.
 */
export async function serve(folders) {
  /** Files that are in no folder: by address, what they begin with and how many bytes they are with the zeros behind. */
  const made = new Map();
  const manners = { ranges: true, cutAfter: undefined, corrupt: undefined, down: false, headers: {}, only: "" };
  const log = [];
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const [, top, ...rest] = decodeURIComponent(pathname).split("/");
    const inside = normalize(`/${rest.join("/")}`);
    const path = folders[top] === undefined ? undefined : join(folders[top], inside.endsWith("/") ? `${inside}index.html` : inside);
    const touched = manners.only === "" || pathname.includes(manners.only);
    log.push({ method: request.method, path: pathname, range: request.headers.range });
    if (manners.down && touched) return request.socket.destroy();
    const imagined = made.get(pathname);
    const facts = path === undefined ? undefined : facing(path);
    if (imagined === undefined && !facts?.isFile()) {
      response.writeHead(404, { "content-type": "text/plain" });
      return response.end("not here");
    }
    const size = imagined?.size ?? facts.size;
    let [start, end, status] = [0, size, 200];
    const asked = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
    const headers = { "content-type": KINDS[extname(path ?? pathname)] ?? "application/octet-stream", "cache-control": "no-store", ...manners.headers };
    if (manners.ranges || !touched) {
      headers["accept-ranges"] = "bytes";
      if (asked !== null) {
        [start, end, status] = [Number(asked[1]), Math.min(Number(asked[2]) + 1, size), 206];
        headers["content-range"] = `bytes ${start}-${end - 1}/${size}`;
      }
    }
    headers["content-length"] = end - start;
    response.writeHead(status, headers);
    if (request.method === "HEAD" || end === start) return response.end();
    if (imagined !== undefined) {
      const body = Buffer.alloc(end - start);
      imagined.head.copy(body, 0, Math.min(start, imagined.head.length), Math.min(end, imagined.head.length));
      return response.end(body);
    }
    let at = start;
    const body = createReadStream(path, { start, end: end - 1 });
    body.on("data", (piece) => {
      if (touched && manners.corrupt >= at && manners.corrupt < at + piece.length) piece[manners.corrupt - at] ^= 0x40;
      at += piece.length;
      if (touched && manners.cutAfter !== undefined && at - start >= manners.cutAfter) {
        body.destroy();
        return response.write(piece, () => response.destroy());
      }
      if (!response.write(piece)) {
        body.pause();
        response.once("drain", () => body.resume());
      }
    });
    body.on("end", () => response.end());
    response.on("close", () => body.destroy());
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    at: `http://127.0.0.1:${server.address().port}`,
    manners,
    made,
    log,
    close: () => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve))),
  };
}
