// What the module's objects are to the package, told without the module's own types, which are not published.

/** The device behind {@link Lampyris}. */
export interface DeviceHandle {
  free(): void;
  summary(): string;
  heldBytes(): number;
  doctor(full: boolean, only: string | undefined, progress: (done: number, all: number) => unknown): Promise<string>;
}

/** The classifier behind {@link Vision}. */
export interface VisionHandle {
  free(): void;
  classify(pixels: Uint8Array, width: number, height: number, top: number): Promise<string>;
  logits(pixels: Uint8Array, width: number, height: number): Promise<Float32Array>;
  setLabels(labels: string[]): void;
}

/** The language model behind {@link Text}. */
export interface TextHandle {
  free(): void;
  generate(prompt: string, options: string, emit: (piece: string) => unknown): Promise<Uint32Array>;
  encode(text: string): Uint32Array;
}

/** The sentence encoder behind {@link Embedder}. */
export interface EmbedderHandle {
  free(): void;
  dimension(): number;
  embed(texts: string[]): Promise<Float32Array>;
}
