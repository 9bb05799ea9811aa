// Files at an address, by range: a window at a time from the server, and kept in the browser's private file system for the next visit.

import { breath } from "./breath.js";
import { LampyrisError, aborted, asError } from "./errors.js";
import { type Kept, keep, kept } from "./kept.js";
import { PIECE, type RangedFile, ofBlob } from "./ranged.js";

/** Bytes of a window: what is asked of a server at once. Whole pieces. */
export const WINDOW = 4 << 20;

/** Bytes that are made ready for a body because a server says that it has them. */
const EXPECTED = 64 << 20;

/** How often a window is asked for before it is given up. */
const TRIES = 3;

/** What is left to do for a file once its model is loaded, or where loading failed. */
interface Ending {
  finish(): Promise<void>;
  discard?(): Promise<void>;
}

/** How the files of one model are fetched, and what is left to do for them. */
export class Fetching {
  readonly #endings: Ending[] = [];

  constructor(
    /** Keep files in the browser, and take those that are kept. */
    readonly cache: boolean,
    /** Gives up when it says so, until the model is loaded. */
    public signal?: AbortSignal | undefined,
  ) {}

  /** Leaves something for the end. */
  atEnd(ending: Ending): void {
    this.#endings.push(ending);
  }

  /** The model is loaded: what was fetched is kept. */
  async finish(): Promise<void> {
    for (const ending of this.#endings) await ending.finish();
    this.signal = undefined;
  }

  /** It is not: nothing is. */
  async discard(): Promise<void> {
    for (const ending of this.#endings) await ending.discard?.();
    this.signal = undefined;
  }

  /** The error for what a request threw. A signal may have thrown anything. */
  error(thrown: unknown, message?: string): LampyrisError {
    if (this.signal?.aborted) return aborted(this.signal);
    return message === undefined ? asError(thrown, "network") : new LampyrisError("network", message, { cause: thrown });
  }
}

async function ask(address: URL, how: Fetching, range?: [number, number]): Promise<Response> {
  const headers: HeadersInit = range === undefined ? {} : { Range: `bytes=${range[0]}-${range[1] - 1}` };
  let answer: Response;
  try {
    // The browser's own cache would hold the weights a second time.
    answer = await fetch(address, { headers, signal: how.signal ?? null, cache: how.cache ? "no-store" : "default" });
  } catch (thrown) {
    throw how.error(thrown);
  }
  if (answer.ok || answer.status === 404) return answer;
  throw new LampyrisError("network", `${address.href} was answered with ${answer.status}`);
}

/** Whether a file is not there. Servers of one-page applications answer with their page instead of 404, and no file of a model is one. */
function isAbsent(answer: Response): boolean {
  return answer.status === 404 || /^text\/html\b/i.test(answer.headers.get("content-type") ?? "");
}

/** A small file, whole; undefined where there is none. */
export async function small(address: URL, how: Fetching): Promise<Uint8Array | undefined> {
  const before = how.cache ? await kept(address.href) : undefined;
  if (before !== undefined) return before.size < 0 ? undefined : before.read(0, before.size);
  const answer = await ask(address, how);
  const bytes = isAbsent(answer) ? undefined : await body(answer, address, how);
  if (how.cache) how.atEnd({ finish: async () => (await keep(address.href, bytes?.length ?? -1))?.whole(bytes ?? new Uint8Array()) });
  return bytes;
}

/** A body, which must be as long as was said. The browser would put its parts together in one task; here each is copied as it comes. */
async function body(answer: Response, address: URL, how: Fetching): Promise<Uint8Array> {
  try {
    let bytes = new Uint8Array(Math.min(Number(answer.headers.get("content-length")), EXPECTED));
    let [length, rested] = [0, 0];
    const reader = answer.body?.getReader();
    for (let part = await reader?.read(); part?.value !== undefined; part = await reader?.read()) {
      const end = length + part.value.length;
      if (end > bytes.length) {
        const shorter = bytes.subarray(0, length);
        bytes = new Uint8Array(Math.max(end, 2 * length));
        bytes.set(shorter);
      }
      bytes.set(part.value, length);
      length = end;
      if (length - rested < PIECE) continue;
      rested = length;
      await breath();
    }
    return bytes.subarray(0, length);
  } catch (thrown) {
    throw how.error(thrown, `${address.href} broke off; load it again`);
  }
}

/** A file of any size, by range, that is to be called `name`; undefined where there is none. */
export async function ranged(address: URL, name: string, how: Fetching): Promise<RangedFile | undefined> {
  let again: RangedFile | undefined;
  const otherwise = async (start: number, end: number, size: number): Promise<Uint8Array> => {
    again ??= await ranged(address, name, new Fetching(false));
    if (again?.size !== size) throw changed(address);
    return again.read(start, end);
  };
  const before = how.cache ? await kept(address.href, otherwise) : undefined;
  if (before !== undefined) return { name, size: before.size, read: (start, end) => before.read(start, end) };
  const answer = await ask(address, how, [0, WINDOW]);
  if (isAbsent(answer)) return undefined;
  if (answer.status === 200) return whole(name, address, answer, how);
  const first = await body(answer, address, how);
  const size = await total(answer, address, how);
  const entry = how.cache ? await keep(address.href, size) : undefined;
  const file = new Windows(name, size, address, how, first, marks(answer), entry);
  how.atEnd(file);
  return file;
}

const changed = (address: URL): LampyrisError =>
  new LampyrisError("bad-file", `${address.href} was changed since it was loaded or while it was; load it again`);

/** What a server says of a file's version, as far as this page may see it. */
const marks = ({ headers }: Response): string => `${headers.get("etag")} ${headers.get("last-modified")}`;

/** The size of the whole that a part's answer tells; undefined where this page may not see it. */
function sizeIn(answer: Response): number | undefined {
  // Another origin's server must allow this header to be seen.
  const seen = /\/(\d+)$/.exec(answer.headers.get("content-range") ?? "");
  return seen === null ? undefined : Number(seen[1]);
}

/** The size of a file of which a part was sent. */
async function total(answer: Response, address: URL, how: Fetching): Promise<number> {
  const seen = sizeIn(answer);
  if (seen !== undefined) return seen;
  let head: Response;
  try {
    head = await fetch(address, { method: "HEAD", signal: how.signal ?? null });
  } catch (thrown) {
    throw how.error(thrown);
  }
  const length = Number(head.headers.get("content-length"));
  if (head.ok && length > 0) return length;
  throw new LampyrisError("network", `${address.href} does not tell its size; let its server expose Content-Range`);
}

/** A file of a server that knows no ranges: the browser keeps the whole where it sees fit, outside of the module. */
async function whole(name: string, address: URL, answer: Response, how: Fetching): Promise<RangedFile> {
  let blob: Blob;
  try {
    blob = await answer.blob();
  } catch (thrown) {
    throw how.error(thrown, `${address.href} broke off; load it again`);
  }
  const file = ofBlob(blob, name);
  const finish = async (): Promise<void> => {
    const entry = await keep(address.href, blob.size);
    if (entry === undefined) return;
    for (let start = 0; start < blob.size; start += PIECE) await entry.take(start, await file.read(start, Math.min(start + PIECE, blob.size)));
    await entry.finish();
  };
  if (how.cache) how.atEnd({ finish });
  return file;
}

/** A file of a server that knows ranges. */
class Windows implements RangedFile, Ending {
  /** Windows that may be asked for again: the last ones. */
  readonly #recent = new Map<number, Uint8Array>();
  readonly #fetched = new Set<number>();
  /** What the browser has kept of it, once all of it is there. */
  #kept: { read(start: number, end: number): Promise<Uint8Array> } | undefined;

  constructor(
    readonly name: string,
    readonly size: number,
    readonly address: URL,
    readonly how: Fetching,
    first: Uint8Array,
    readonly version: string,
    readonly entry: Kept | undefined,
  ) {
    if (first.length === Math.min(WINDOW, size)) this.#recent.set(0, first);
  }

  async read(start: number, end: number): Promise<Uint8Array> {
    return this.#kept === undefined ? this.#read(start, end) : this.#kept.read(start, end);
  }

  async #read(start: number, until: number): Promise<Uint8Array> {
    await breath();
    const end = Math.min(until, this.size);
    if (start >= end) return new Uint8Array();
    const first = start - (start % WINDOW);
    if (end <= first + WINDOW) return (await this.#window(first)).subarray(start - first, end - first);
    const bytes = new Uint8Array(end - start);
    for (let at = first; at < end; at += WINDOW) {
      const window = await this.#window(at);
      const from = Math.max(start, at);
      bytes.set(window.subarray(from - at, Math.min(end, at + WINDOW) - at), from - start);
    }
    return bytes;
  }

  async #window(at: number): Promise<Uint8Array> {
    const bytes = this.#recent.get(at) ?? (await this.#fetch(at));
    this.#recent.delete(at);
    this.#recent.set(at, bytes);
    for (const oldest of this.#recent.keys()) {
      if (this.#recent.size <= 2) break;
      this.#recent.delete(oldest);
    }
    if (!this.#fetched.has(at)) {
      this.#fetched.add(at);
      await this.entry?.take(at, bytes);
    }
    return bytes;
  }

  async #fetch(at: number): Promise<Uint8Array> {
    const end = Math.min(at + WINDOW, this.size);
    for (let tried = 1; ; tried += 1) {
      try {
        const answer = await ask(this.address, this.how, [at, end]);
        const bytes = answer.status === 206 ? await body(answer, this.address, this.how) : undefined;
        if (marks(answer) !== this.version || (sizeIn(answer) ?? this.size) !== this.size) throw changed(this.address);
        if (bytes?.length === end - at) return bytes;
        throw new LampyrisError("network", `${this.address.href} gave ${bytes?.length ?? 0} bytes for the ${end - at} from byte ${at} on`);
      } catch (thrown) {
        const error = asError(thrown);
        if (error.code !== "network" || tried === TRIES) throw error;
      }
    }
  }

  async finish(): Promise<void> {
    if (this.entry !== undefined) {
      for (let at = 0; at < this.size; at += WINDOW) if (!this.#fetched.has(at)) await this.#window(at);
      await this.entry.finish();
      this.#kept = await kept(this.address.href, (start, end) => this.#read(start, end));
    }
    this.#recent.clear();
  }

  async discard(): Promise<void> {
    await this.entry?.discard();
  }
}
