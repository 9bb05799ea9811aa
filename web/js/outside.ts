// The package in a worker, used from outside as if it were here: for large tokenizers, and for pages that must never wait.

import { type ErrorCode, LampyrisError, aborted, asError, guarded } from "./errors.js";
import type { Adapter, Check, CreateOptions, DoctorOptions, GenerateOptions, LoadOptions, LoadTextOptions, Prediction } from "./index.js";
import { handed } from "./module.js";
import type { Picture } from "./pixels.js";
import { type Source, absolute } from "./source.js";
import type { Answer, Ask } from "./worker.js";

const MISSING = "the worker's script did not load; serve worker.js beside the package, and let the content policy's worker-src allow it";

/** Questions on their way to a worker. */
class Line {
  readonly #waiting = new Map<number, { done: (value: any) => void; failed: (error: Error) => void; progress: (...progress: number[]) => void }>();
  #last = 0;
  /** Why nothing is answered any more. */
  #ended: LampyrisError | undefined;

  constructor(readonly worker: Worker) {
    worker.addEventListener("message", ({ data }: MessageEvent<Answer>) => {
      const waiting = this.#waiting.get(data.id);
      if (waiting === undefined) return;
      if ("progress" in data) return waiting.progress(...data.progress);
      this.#waiting.delete(data.id);
      if ("error" in data) waiting.failed(new LampyrisError(data.error.code as ErrorCode, data.error.message));
      else waiting.done(data.value);
    });
    worker.addEventListener("error", ({ message }: Partial<ErrorEvent>) => {
      // What fails within has a message; a script that did not come has none.
      this.end(message === undefined ? new LampyrisError("network", MISSING) : new LampyrisError("internal", `the worker failed: ${message}`));
    });
    worker.addEventListener("messageerror", () => this.end(new LampyrisError("internal", "the worker's answer could not be read")));
  }

  /** Asks, with what can be handed over instead of copied. */
  ask<T>(ask: Omit<Ask, "id">, more: { transfer?: Transferable[]; signal?: AbortSignal | undefined; progress?: ((...progress: number[]) => void) | undefined } = {}): Promise<T> {
    const { signal } = more;
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    if (signal?.aborted) return Promise.reject(aborted(signal));
    const id = (this.#last += 1);
    const stop = (): void => this.worker.postMessage({ abort: id });
    signal?.addEventListener("abort", stop, { once: true });
    return new Promise<T>((done, failed) => {
      this.#waiting.set(id, { done, failed, progress: more.progress ?? (() => {}) });
      try {
        this.worker.postMessage({ ...ask, id }, more.transfer ?? []);
      } catch (thrown) {
        this.#waiting.delete(id);
        failed(new LampyrisError("bad-input", `this cannot be handed to a worker: ${asError(thrown).message}`, { cause: thrown }));
      }
    }).finally(() => signal?.removeEventListener("abort", stop));
  }

  /** Whether the worker is no more. */
  get ended(): boolean {
    return this.#ended !== undefined;
  }

  /** Ends the worker, everything that waits for it, and everything that is asked later. */
  end(error: LampyrisError): void {
    this.worker.terminate();
    this.#ended ??= error;
    for (const { failed } of this.#waiting.values()) failed(error);
    this.#waiting.clear();
  }
}

abstract class There {
  constructor(
    /** @internal */
    protected readonly line: Line,
    /** @internal */
    protected readonly on: number,
  ) {}

  /** Gives its memory back. It cannot be used afterwards. */
  async dispose(): Promise<void> {
    if (this.line.ended) return;
    await this.line.ask({ what: "dispose", on: this.on, with: [] }).catch((thrown: unknown) => {
      // The worker has ended meanwhile, and its memory with it.
      if (!this.line.ended) throw thrown;
    });
  }
}

/** A copy of a picture that a worker can be given. */
async function bitmap(picture: Exclude<Picture, ImageData>): Promise<ImageBitmap> {
  try {
    return await createImageBitmap(picture);
  } catch (thrown) {
    throw new LampyrisError("bad-input", `the picture cannot be read: ${asError(thrown).message}`, { cause: thrown });
  }
}

/** A worker with the package's script. */
function started(): Worker {
  try {
    return new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  } catch (thrown) {
    // As for a script of another origin.
    throw new LampyrisError("network", MISSING, { cause: thrown });
  }
}

/** As `Vision`. */
export class WorkerVision extends There {
  /** The likeliest classes of a picture, likeliest first. */
  classify(picture: Picture, options: { top?: number } = {}): Promise<Prediction[]> {
    return this.#look("classify", picture, options);
  }

  /** The network's outputs before the softmax, one a class. */
  logits(picture: Picture): Promise<Float32Array> {
    return this.#look("logits", picture);
  }

  #look<T>(what: string, picture: Picture, ...more: unknown[]): Promise<T> {
    return guarded(async () => {
      const copy = picture instanceof ImageData ? picture : await bitmap(picture);
      const transfer = copy instanceof ImageBitmap ? [copy] : [];
      return this.line.ask<T>({ what, on: this.on, with: [copy, ...more] }, { transfer });
    });
  }

  /** Names the classes. */
  setLabels(labels: string[]): Promise<void> {
    return this.line.ask({ what: "setLabels", on: this.on, with: [labels] });
  }
}

/** As `Text`. */
export class WorkerText extends There {
  /** Continues a text, piece by piece. Leave the loop to stop it, or use a signal. */
  async *generate(prompt: string, options: GenerateOptions = {}): AsyncGenerator<string, void, undefined> {
    const { signal, ...others } = options;
    const on = await this.line.ask<number>({ what: "generate", on: this.on, with: [prompt, others] }, { signal });
    let stop = (): void => {};
    const stopped = new Promise<never>((_, failed) => (stop = () => signal && failed(aborted(signal))));
    // Nobody may be listening when the signal comes late.
    stopped.catch(() => {});
    signal?.addEventListener("abort", stop, { once: true });
    try {
      // It may have come while the worker was asked.
      if (signal?.aborted) throw aborted(signal);
      for (;;) {
        const next = this.line.ask<IteratorResult<string, void>>({ what: "next", on, with: [] });
        const { done, value } = await Promise.race([next, stopped]);
        if (done) return;
        yield value;
      }
    } finally {
      signal?.removeEventListener("abort", stop);
      // A worker that is no more has nothing to leave.
      await this.line.ask({ what: "leave", on, with: [] }).catch(() => {});
    }
  }

  /** The tokens of a text as a document. */
  encode(text: string): Promise<Uint32Array> {
    return this.line.ask({ what: "encode", on: this.on, with: [text] });
  }
}

/** As `Embedder`. */
export class WorkerEmbedder extends There {
  /** Values of a vector. */
  get dimension(): Promise<number> {
    return this.line.ask({ what: "dimension", on: this.on, with: [] });
  }

  /** A vector for each text. */
  embed(texts: string[]): Promise<Float32Array[]> {
    return this.line.ask({ what: "embed", on: this.on, with: [texts] });
  }
}

/** How to start a worker. */
export interface CreateWorkerOptions extends CreateOptions {
  /** Gives up when it says so; the worker ends with it. */
  signal?: AbortSignal;
}

/** The package in a worker of its own: the same methods, each with a promise. */
export class LampyrisWorker {
  readonly #line: Line;

  private constructor(line: Line) {
    this.#line = line;
  }

  /** Starts the worker and opens the device there. A module must be given as an address or compiled. */
  static async create(options: CreateWorkerOptions = {}): Promise<LampyrisWorker> {
    const { signal, ...others } = options;
    if (signal?.aborted) throw aborted(signal);
    const asked = others.module === undefined ? others : { ...others, module: handed(others.module) };
    const line = new Line(started());
    const stop = (): void => signal && line.end(aborted(signal));
    signal?.addEventListener("abort", stop, { once: true });
    try {
      await line.ask({ what: "create", with: [asked] });
    } catch (thrown) {
      line.worker.terminate();
      throw thrown;
    } finally {
      signal?.removeEventListener("abort", stop);
    }
    return new LampyrisWorker(line);
  }

  /** The adapter and its limits. */
  adapter(): Promise<Adapter> {
    return this.#line.ask({ what: "adapter", with: [] });
  }

  /** Bytes in use. */
  memory(): Promise<{ gpu: number; heap: number }> {
    return this.#line.ask({ what: "memory", with: [] });
  }

  /** Loads a classifier. */
  async loadVision(source: Source, options: LoadOptions = {}): Promise<WorkerVision> {
    return new WorkerVision(this.#line, await this.#load("loadVision", source, options));
  }

  /** Loads a language model. */
  async loadText(source: Source, options: LoadTextOptions = {}): Promise<WorkerText> {
    return new WorkerText(this.#line, await this.#load("loadText", source, options));
  }

  /** Loads a sentence encoder. */
  async loadEmbedder(source: Source, options: LoadOptions = {}): Promise<WorkerEmbedder> {
    return new WorkerEmbedder(this.#line, await this.#load("loadEmbedder", source, options));
  }

  /** Holds every kernel against its CPU twin. */
  doctor(options: DoctorOptions = {}): Promise<Check[]> {
    const { onProgress, ...others } = options;
    return this.#line.ask({ what: "doctor", with: [others] }, { progress: onProgress && ((done, all) => onProgress(done ?? 0, all ?? 0)) });
  }

  /** Ends the worker, and with it all that it holds. */
  dispose(): void {
    this.#line.end(new LampyrisError("disposed", "the worker was disposed of; create it again"));
  }

  async #load(what: string, source: Source, options: LoadTextOptions): Promise<number> {
    const { signal, onProgress, ...others } = options;
    // An address means the same there as here.
    const from = typeof source === "string" || source instanceof URL ? absolute(source).href : source;
    return this.#line.ask({ what, with: [from, others] }, { signal, progress: onProgress && ((share) => onProgress(share ?? 0)) });
  }
}
