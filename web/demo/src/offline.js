// The service worker: the page and the bundled models from the first visit on, with or without a network.

const FILES = "__FILES__";
// Another copy of the page may lie in another folder of the same server.
const OWN = `lampyris ${registration.scope} `;
const CACHE = `${OWN}__VERSION__`;

// After this a new version waits: a page that is open keeps the files of its own, until the last such page is closed.
addEventListener("install", (event) => {
  // The browser's own cache may hold files of another version.
  const fresh = [...FILES].map((file) => new Request(file, { cache: "reload" }));
  const all = caches.open(CACHE).then((cache) => cache.addAll(fresh));
  event.waitUntil(
    all.catch(async (thrown) => {
      await caches.delete(CACHE);
      throw thrown;
    }),
  );
});

// By now no page has its files from another version's worker.
addEventListener("activate", (event) => {
  const work = async () => {
    const old = (await caches.keys()).filter((name) => name.startsWith(OWN) && name !== CACHE);
    await Promise.all(old.map((name) => caches.delete(name)));
    // The page of the very first visit was there before any worker; later on, one without a worker may be of another version.
    if (old.length === 0) await clients.claim();
  };
  event.waitUntil(work());
});

/** The part of a kept file that a range asks for, as a server would give it. */
async function part(kept, range) {
  const asked = /^bytes=(\d+)-(\d+)$/.exec(range);
  if (asked === null) return kept;
  const blob = await kept.blob();
  const [start, end] = [Number(asked[1]), Math.min(Number(asked[2]) + 1, blob.size)];
  if (start >= end) return new Response(null, { status: 416, headers: { "content-range": `bytes */${blob.size}` } });
  const headers = { "content-range": `bytes ${start}-${end - 1}/${blob.size}`, "content-length": String(end - start) };
  return new Response(blob.slice(start, end), { status: 206, headers });
}

async function answer(request) {
  const url = new URL(request.url);
  // The page is kept by its folder's address.
  url.pathname = url.pathname.replace(/\/index\.html$/, "/");
  const kept = await caches.match(url, { ignoreSearch: true, cacheName: CACHE });
  if (kept === undefined) return fetch(request);
  const range = request.headers.get("range");
  return range === null ? kept : part(kept, range);
}

addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && new URL(request.url).origin === location.origin) event.respondWith(answer(request));
});
