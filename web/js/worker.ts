// The inside of a worker: the package there, asked by messages. `LampyrisWorker` starts it and speaks to it.

import { Embedder, type GenerateOptions, Lampyris, type LoadTextOptions, Text, Vision } from "./index.js";
import { LampyrisError, asError } from "./errors.js";
import type { Picture } from "./pixels.js";
import type { Source } from "./source.js";

/** What is asked of the worker. `on` is the number of a model or of a text under way. */
export interface Ask {
  id: number;
  what: string;
  on?: number;
  // What each question takes is checked where it is asked.
  with: any[];
}

/** What the worker answers: the result, an error, or how far it is. */
export type Answer =
  | { id: number; value: unknown }
  | { id: number; error: { code: string; message: string } }
  | { id: number; progress: number[] };

type Thing = Vision | Text | Embedder | AsyncGenerator<string, void, undefined>;

let lampyris: Lampyris | undefined;
const things = new Map<number, Thing>();
const running = new Map<number, AbortController>();
let last = 0;

function gpu(): Lampyris {
  if (lampyris === undefined) throw new LampyrisError("disposed", "this was disposed of; create it again");
  return lampyris;
}

function keep(thing: Thing): number {
  last += 1;
  things.set(last, thing);
  return last;
}

function thing<T>(on: number | undefined): T {
  const found = things.get(on ?? 0);
  if (found === undefined) throw new LampyrisError("disposed", "this was disposed of; load it again");
  return found as T;
}

/** Looks at a picture that was handed over for this. */
async function looking<T>(picture: Picture, look: () => Promise<T>): Promise<T> {
  try {
    return await look();
  } finally {
    if (picture instanceof ImageBitmap) picture.close();
  }
}

const answers: Record<string, (ask: Ask, signal: AbortSignal, tell: (...progress: number[]) => void) => unknown> = {
  create: async ({ with: [options] }) => void (lampyris = await Lampyris.create(options)),
  adapter: () => gpu().adapter(),
  memory: () => gpu().memory(),
  doctor: ({ with: [options] }, _, tell) => gpu().doctor({ ...options, onProgress: tell }),
  loadVision: async ({ with: [source, options] }, signal, tell) =>
    keep(await gpu().loadVision(source as Source, { ...options, signal, onProgress: tell })),
  loadText: async ({ with: [source, options] }, signal, tell) =>
    keep(await gpu().loadText(source as Source, { ...(options as LoadTextOptions), signal, onProgress: tell })),
  loadEmbedder: async ({ with: [source, options] }, signal, tell) =>
    keep(await gpu().loadEmbedder(source as Source, { ...options, signal, onProgress: tell })),
  classify: ({ on, with: [picture, options] }) => looking(picture, () => thing<Vision>(on).classify(picture, options)),
  logits: ({ on, with: [picture] }) => looking(picture, () => thing<Vision>(on).logits(picture)),
  setLabels: ({ on, with: [labels] }) => thing<Vision>(on).setLabels(labels),
  embed: ({ on, with: [texts] }) => thing<Embedder>(on).embed(texts),
  dimension: ({ on }) => thing<Embedder>(on).dimension,
  encode: ({ on, with: [text] }) => thing<Text>(on).encode(text),
  generate: ({ on, with: [prompt, options] }) => keep(thing<Text>(on).generate(prompt, options as GenerateOptions)),
  next: async ({ on }) => thing<AsyncGenerator<string, void, undefined>>(on).next(),
  leave: async ({ on }) => {
    const text = things.get(on ?? 0) as AsyncGenerator<string, void, undefined> | undefined;
    things.delete(on ?? 0);
    await text?.return();
  },
  dispose: ({ on }) => {
    if (on === undefined) {
      lampyris?.dispose();
      lampyris = undefined;
    } else {
      (things.get(on) as Vision | Text | Embedder | undefined)?.dispose();
      things.delete(on);
    }
  },
};

addEventListener("message", async ({ data }: MessageEvent<Ask | { abort: number }>) => {
  if ("abort" in data) return running.get(data.abort)?.abort();
  const { id } = data;
  const control = new AbortController();
  running.set(id, control);
  const say = (answer: Answer): void => postMessage(answer);
  try {
    const answer = answers[data.what];
    if (answer === undefined) throw new LampyrisError("internal", `the worker knows no '${data.what}'`);
    say({ id, value: await answer(data, control.signal, (...progress) => say({ id, progress })) });
  } catch (thrown) {
    const { code, message } = asError(thrown);
    say({ id, error: { code, message } });
  } finally {
    running.delete(id);
  }
});
