// Errors with a code that a program can act on, whoever threw them: the module, the browser or a server.

/** What went wrong, for programs; the message says it to people. */
export type ErrorCode =
  /** The browser has no WebGPU, or no adapter for it. */
  | "no-webgpu"
  /** The GPU cannot hold the model, its session or the picture. */
  | "out-of-memory"
  /** The device went away, and again after it was opened anew. */
  | "device-lost"
  /** The device cannot run this model: no kernel is for it, or a layer has more workgroups than it starts. */
  | "unsupported-device"
  /** A file is damaged, of another kind, or of a model that is not known. */
  | "bad-file"
  /** A server did not give what it was asked for, or broke off; so with a model, the module or the worker's script. */
  | "network"
  /** An argument makes no sense. */
  | "bad-input"
  /** The network's numbers are none. */
  | "bad-result"
  /** The caller's signal said so. */
  | "aborted"
  /** The object was disposed of. */
  | "disposed"
  /** A fault of the package. */
  | "internal";

/** The one kind of error that this package throws. */
export class LampyrisError extends Error {
  override readonly name = "LampyrisError";
  /** What went wrong. */
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** The error for anything that was thrown. */
export function asError(thrown: unknown, otherwise: ErrorCode = "internal"): LampyrisError {
  if (thrown instanceof LampyrisError) return thrown;
  if (thrown instanceof DOMException && thrown.name === "AbortError") {
    return new LampyrisError("aborted", thrown.message, { cause: thrown });
  }
  if (thrown instanceof Error) {
    const code = (thrown as { code?: unknown }).code;
    return new LampyrisError(typeof code === "string" ? (code as ErrorCode) : otherwise, thrown.message, { cause: thrown });
  }
  return new LampyrisError(otherwise, String(thrown), { cause: thrown });
}

/** Waits, and throws a {@link LampyrisError} for whatever is thrown. */
export async function guarded<T>(work: () => Promise<T> | T): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    throw asError(thrown);
  }
}

/** The error of a signal that has said stop. */
export function aborted(signal: AbortSignal): LampyrisError {
  if (signal.reason instanceof LampyrisError) return signal.reason;
  const reason = signal.reason instanceof Error ? signal.reason.message : "the caller's signal stopped it";
  return new LampyrisError("aborted", reason, { cause: signal.reason });
}
