// The models that tell stories: the bundled one, small enough for the page's own thread, and a visitor's, in a worker of its own.

import { type GenerateOptions, type Lampyris, LampyrisWorker } from "lampyris";

/** Bytes in use: of the GPU, and of the module's heap. */
export interface Memory {
  gpu: number;
  heap: number;
}

/** A model that tells, wherever it is. */
export interface Teller {
  generate(prompt: string, options: GenerateOptions): AsyncGenerator<string, void, undefined>;
  /** The tokens of a text as a document. */
  encode(text: string): Promise<Uint32Array>;
  dispose(): void;
}

/** One that has memory of its own. */
export interface Distant extends Teller {
  memory(): Promise<Memory>;
}

/** The bundled storyteller on the page's device. */
export async function bundled(lampyris: Lampyris): Promise<Teller> {
  const address = new URL("models/storyteller/storyteller.gguf", document.baseURI);
  // The package's own store is not needed for what the service worker keeps already.
  return lampyris.loadText(address, { cache: false });
}

/**
 * A visitor's model in a worker: its tokenizer may be large, and to read that keeps a thread busy. The worker has a device and a heap of
 * its own, which go with it. The signal ends it while it loads.
 */
export async function distant(files: File[], signal: AbortSignal, onProgress: (share: number) => void): Promise<Distant> {
  const worker = await LampyrisWorker.create({ signal });
  const stop = (): void => worker.dispose();
  signal.addEventListener("abort", stop);
  try {
    signal.throwIfAborted();
    const model = await worker.loadText(files, { onProgress });
    return {
      generate: (prompt, options) => model.generate(prompt, options),
      encode: (text) => model.encode(text),
      memory: () => worker.memory(),
      dispose: stop,
    };
  } catch (thrown) {
    stop();
    throw thrown;
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
