// The package as a page uses it: a device, models on it, and nothing that leaves them.

import start, { Device, Embedder as EmbedderOfModule, Files, Text as TextOfModule, Vision as VisionOfModule, heapBytes } from "../glue/lampyris.js";
import type { DeviceHandle, EmbedderHandle, TextHandle, VisionHandle } from "./handles.js";
import { LampyrisError, aborted, asError, guarded } from "./errors.js";
import { type Picture, pixels } from "./pixels.js";
import { pieces } from "./pieces.js";
import type { RangedFile } from "./ranged.js";
import { breath } from "./breath.js";
import { forget } from "./kept.js";
import { type Module, sourceOf } from "./module.js";
import { type Source, folder } from "./source.js";

export { LampyrisError, type ErrorCode } from "./errors.js";
export type { Picture } from "./pixels.js";
export { type CreateWorkerOptions, LampyrisWorker, WorkerEmbedder, WorkerText, WorkerVision } from "./outside.js";
export type { NamedBytes, Source } from "./source.js";

/** Told the share that has arrived, from 0 to 1. */
export type Progress = (share: number) => void;

/** How to open the device. */
export interface CreateOptions {
  /** Which GPU of several, as `navigator.gpu.requestAdapter` takes it; the browser may do otherwise. */
  powerPreference?: "low-power" | "high-performance";
  /** Refused: wgpu makes its devices itself and has no public way to take one that is there. */
  device?: never;
  /** Where the wasm module lies, if not beside this script: its address, bytes or compiled form. */
  module?: Module;
}

/** How to load a model. */
export interface LoadOptions {
  /** Told the share of the weights that has arrived. */
  onProgress?: Progress;
  /** Gives up fetching when it says so. */
  signal?: AbortSignal;
  /** Keep what is fetched from an address in the browser, for the next time; true when absent. */
  cache?: boolean;
}

/** How to load a language model. */
export interface LoadTextOptions extends LoadOptions {
  /** Tokens that a text may have, prompt and continuation together; what the model usually gets when absent. */
  context?: number;
}

/** One class that a picture may show. */
export interface Prediction {
  /** Position among the network's outputs. */
  index: number;
  /** What it is called. */
  label: string;
  /** From 0 to 1. */
  probability: number;
}

/** How a text is continued. Without a temperature the likeliest token is taken each time. */
export interface GenerateOptions {
  /** Most tokens; 128 when absent. */
  maxTokens?: number;
  /** What logits are divided by before a draw. */
  temperature?: number;
  /** Only so many of the likeliest tokens. */
  topK?: number;
  /** Only the likeliest tokens that together reach this probability. */
  topP?: number;
  /** Only tokens at least this times as likely as the likeliest. */
  minP?: number;
  /** Holds repetitions back; 1 for not. */
  repetitionPenalty?: number;
  /** Which of the possible texts: the same seed gives the same one. */
  seed?: number;
  /** Texts that end it. */
  stop?: string[];
  /** Stops it. */
  signal?: AbortSignal;
}

/** What one kernel variant gave on one case. */
export interface Check {
  kernel: string;
  variant: string;
  case: string;
  passed: boolean;
  /** Largest difference relative to the twin's largest value; null for one that is no number. */
  worstError: number | null;
  tolerance: number;
  /** What the browser said, when there was an error instead of a result. */
  failure: string | null;
}

/** How the kernels are checked. */
export interface DoctorOptions {
  /** Every case and every variant that the adapter can run, instead of small cases and the variants in use. */
  full?: boolean;
  /** Only the kernel of this name, as the checks have it; another name is refused. */
  only?: string;
  /** Told the cases done and those there are. */
  onProgress?: (done: number, all: number) => void;
}

/** The adapter, as the browser and the device tell it. */
export interface Adapter {
  name: string;
  kind: string;
  /** A program on the CPU: right, and slow. */
  software: boolean;
  f16: boolean;
  subgroups: boolean;
  timestamps: boolean;
  maxBindingBytes: number;
  maxBufferBytes: number;
  maxStorageBuffers: number;
  maxWorkgroupBytes: number;
  maxInvocations: number;
  /** How often a lost device was replaced. */
  timesReopened: number;
}

/** Something of the module's that can be given back. */
abstract class Held<T extends { free(): void }> {
  #inner: T | undefined;
  /** Calls under way, during which the module does not give it back. */
  #calls = 0;
  readonly #over = new AbortController();

  constructor(inner: T) {
    this.#inner = inner;
  }

  /** @internal */
  protected get inner(): T {
    if (this.#inner === undefined || this.over.aborted) throw new LampyrisError("disposed", GONE);
    return this.#inner;
  }

  /** @internal Says when it was disposed of. */
  protected get over(): AbortSignal {
    return this.#over.signal;
  }

  /** @internal Works with it, and only then lets it be given back. */
  protected using<R>(work: (inner: T) => Promise<R> | R): Promise<R> {
    return guarded(async () => {
      const { inner } = this;
      this.#calls += 1;
      try {
        return await work(inner);
      } finally {
        this.#calls -= 1;
        if (this.over.aborted) this.#free();
      }
    });
  }

  /** Gives its memory back, when what is under way has ended. It cannot be used afterwards; to dispose of it again does nothing. */
  dispose(): void {
    this.#over.abort(new LampyrisError("disposed", GONE));
    this.#free();
  }

  #free(): void {
    if (this.#calls > 0) return;
    this.#inner?.free();
    this.#inner = undefined;
  }
}

const GONE = "this was disposed of; load it again";

/** A model that names what is in a picture. */
export class Vision extends Held<VisionHandle> {
  /** The likeliest classes of a picture, likeliest first. */
  classify(picture: Picture, options: { top?: number } = {}): Promise<Prediction[]> {
    return this.#look(picture, async (inner, ...read) => JSON.parse(await inner.classify(...read, options.top ?? 5)) as Prediction[]);
  }

  /** The network's outputs before the softmax, one a class. */
  logits(picture: Picture): Promise<Float32Array> {
    return this.#look(picture, (inner, ...read) => inner.logits(...read));
  }

  /** Looks at a picture as it is now. One that had to be drawn to be read is looked at in the next task. */
  #look<R>(picture: Picture, look: (inner: VisionHandle, data: Uint8Array, width: number, height: number) => Promise<R>): Promise<R> {
    return this.using(async (inner) => {
      const { data, width, height } = pixels(picture);
      if (!(picture instanceof ImageData)) await breath();
      return look(inner, data, width, height);
    });
  }

  /** Names the classes, one name for each, or one for each after the background. */
  setLabels(labels: string[]): Promise<void> {
    return this.using((inner) => inner.setLabels(labels));
  }
}

/** A model that continues texts. */
export class Text extends Held<TextHandle> {
  /** Continues a text, piece by piece. Leave the loop to stop it, or use a signal; `dispose` stops it too. */
  generate(prompt: string, options: GenerateOptions = {}): AsyncGenerator<string, void, undefined> {
    const { signal, ...others } = options;
    return pieces((emit) => this.using((inner) => inner.generate(prompt, JSON.stringify(others), emit)), signal, this.over);
  }

  /** The tokens of a text as a document. */
  encode(text: string): Promise<Uint32Array> {
    return this.using((inner) => inner.encode(text));
  }
}

/** A model that makes a vector of each text, such that texts of like meaning have like vectors. */
export class Embedder extends Held<EmbedderHandle> {
  /** Values of a vector. */
  get dimension(): number {
    return this.inner.dimension();
  }

  /** A vector for each text. */
  embed(texts: string[]): Promise<Float32Array[]> {
    return this.using(async (inner) => {
      const [all, each] = [await inner.embed(texts), inner.dimension()];
      return texts.map((_, at) => all.subarray(at * each, (at + 1) * each));
    });
  }
}

let started: Promise<unknown> | undefined;

/** The visitor's GPU, ready for models. */
export class Lampyris extends Held<DeviceHandle> {
  readonly #device: Device;

  private constructor(device: Device) {
    super(device);
    this.#device = device;
  }

  /** Starts the module and opens the device. Throws `no-webgpu` where there is none. */
  static create(options: CreateOptions = {}): Promise<Lampyris> {
    return guarded(async () => {
      if (options.device !== undefined) {
        const why = "wgpu 30 makes its devices itself and cannot take one that is there; leave `device` out, and Lampyris opens one beside yours";
        throw new LampyrisError("bad-input", why);
      }
      started ??= sourceOf(options.module).then((module_or_path) => start({ module_or_path }));
      try {
        await started;
      } catch (thrown) {
        started = undefined;
        // What a browser throws where an answer broke off.
        throw asError(thrown, thrown instanceof TypeError ? "network" : "internal");
      }
      // The browser has just ended the module's compilation on this thread.
      await breath();
      return new Lampyris(await Device.open(options.powerPreference));
    });
  }

  /** The adapter and its limits. */
  adapter(): Adapter {
    return JSON.parse(this.inner.summary()) as Adapter;
  }

  /** Loads a classifier: a MobileNet in a safetensors file. */
  loadVision(source: Source, options: LoadOptions = {}): Promise<Vision> {
    const names = ["config.json", "preprocessor_config.json"];
    return this.#load(source, names, options, async (files) => new Vision(await VisionOfModule.load(this.#device, files, breath)));
  }

  /** Loads a language model: a GGUF file, or a folder with `config.json`, `tokenizer.json` and safetensors. */
  loadText(source: Source, options: LoadTextOptions = {}): Promise<Text> {
    const names = ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"];
    return this.#load(source, names, options, async (files) => new Text(await TextOfModule.load(this.#device, files, options.context, breath)));
  }

  /** Loads a sentence encoder of the BERT family: a folder as sentence-transformers writes it, or a GGUF file. */
  loadEmbedder(source: Source, options: LoadOptions = {}): Promise<Embedder> {
    const names = ["config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json"];
    names.push("config_sentence_transformers.json", "tokenizer.json", "tokenizer_config.json");
    return this.#load(source, names, options, async (files) => new Embedder(await EmbedderOfModule.load(this.#device, files, () => {})));
  }

  /**
   * Holds every kernel against its CPU twin on this very adapter. Variants that it cannot run are not among the checks: where `adapter().f16`
   * is false, nothing is said of those in 16-bit floats.
   *
   * A twin keeps the thread while it computes. On a page that must answer meanwhile use {@link LampyrisWorker.doctor}.
   */
  doctor(options: DoctorOptions = {}): Promise<Check[]> {
    return this.using(async (inner) => {
      const progress = (done: number, all: number): Promise<void> => {
        options.onProgress?.(done, all);
        return breath();
      };
      return JSON.parse(await inner.doctor(options.full ?? false, options.only, progress)) as Check[];
    });
  }

  /** Bytes in use: of the GPU by models and sessions, and of the module's heap, which never shrinks. */
  memory(): { gpu: number; heap: number } {
    return { gpu: this.inner.heldBytes(), heap: heapBytes() };
  }

  /** Throws away what this package keeps in the browser for this site. */
  static forget(): Promise<void> {
    return forget();
  }

  /** Gives the device back, when what is under way has ended. Models on it are disposed of by themselves. */
  override dispose(): void {
    super.dispose();
  }

  #load<T extends { dispose(): void }>(source: Source, names: string[], options: LoadOptions, make: (files: Files) => Promise<T>): Promise<T> {
    return this.using(() => load(source, names, options, make));
  }
}

/** Hands a model's files to the module and lets it load them. */
async function load<T extends { dispose(): void }>(
  source: Source,
  names: string[],
  options: LoadOptions,
  make: (files: Files) => Promise<T>,
): Promise<T> {
  const { signal, cache = true } = options;
  const from = folder(source, { cache, ...(signal && { signal }) });
  let files: Files | undefined;
  let made: T | undefined;
  try {
    const weights = await from.weights();
    const telling = told(weights.files, options);
    files = await Files.open(telling.files, weights.index);
    // A GGUF file is all there is.
    for (const name of weights.files.some((file) => /\.gguf$/i.test(file.name)) ? [] : names) {
      const bytes = await from.small(name);
      if (bytes !== undefined) files.put(name, bytes);
    }
    made = await make(files);
    await from.finish?.();
    telling.end();
    options.onProgress?.(1);
    return made;
  } catch (thrown) {
    made?.dispose();
    await from.discard?.();
    throw thrown;
  } finally {
    files?.free();
  }
}

/** Files that, until they are loaded, tell how much of them was read and stop at a signal. Later reads are after a lost device. */
function told(files: RangedFile[], { onProgress, signal }: LoadOptions): { files: RangedFile[]; end(): void } {
  let [far, loading] = [0, true];
  const all = files.reduce((sum, file) => sum + file.size, 0);
  return {
    files: files.map((file) => {
      let most = 0;
      return {
        name: file.name,
        size: file.size,
        async read(start, end) {
          if (loading && signal?.aborted) throw aborted(signal);
          const bytes = await file.read(start, end);
          far += Math.max(0, end - most);
          most = Math.max(most, end);
          if (loading) onProgress?.(Math.min(0.99, far / all));
          return bytes;
        },
      };
    }),
    end: () => void (loading = false),
  };
}
